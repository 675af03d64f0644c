"""`wardround coordinator status` shows a study's title as text, whatever it is, and never fails
over it.

Kind of fault: words from the network printed as markup (Rich) or raw, in an operator's terminal.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from protocol.errors import WardroundError
from server.coordinator.setup import status
from tests.cases.real_federation import WORDS as PRIVATE
from tests.cases.real_federation import Federation
from tests.cases.security.titles import WORDS, Words
from tests.waiting import HUNG, until

_START = "import sys; from launch.cli.main import main; sys.argv[0] = 'wardround'; main()"
TITLES = [pytest.param(words, id=name) for name, words in WORDS.items()]


def is_listed(federation: Federation, digest: str) -> bool:
    """Whether the coordinator's own note of its studies has the study yet."""
    return digest in [study["study"] for study in status(federation.config)["studies"]]


@pytest.mark.slow
@pytest.mark.parametrize("title", TITLES)
def test_the_operator_reads_a_studys_title_as_text(tmp_path: Path, title: Words) -> None:
    with Federation(tmp_path / "federation") as federation:
        federation.start()
        patients = federation.patients()
        try:
            study, configuration = federation.study(
                patients, *PRIVATE, "rounds=2", "evaluation.every=2", title=title.text
            )
            digest = federation.submit(study, configuration)
        except (WardroundError, ValueError):
            return  # refused at submission
        federation.stop()  # it notes its studies every few seconds, and when it stops
        until(lambda: is_listed(federation, digest), "the study in the coordinator's status")
        folder = str(federation.config.folder)
        done = subprocess.run(
            [sys.executable, "-c", _START, "coordinator", "status", "-f", folder],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=os.environ | {"COLUMNS": "300", "FORCE_COLOR": "1", "TERM": "xterm"},
            timeout=HUNG,
        )
    assert (done.returncode, title.faults(done.stdout + done.stderr)) == (0, [])
