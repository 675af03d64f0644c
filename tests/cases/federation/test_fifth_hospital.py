"""A change of the roster does not break new studies without a word.

A fifth hospital is enrolled, and the four others have not fetched the new bundle yet. A study for
all five must not fail for all of them: it runs with the four, or its end says which hospitals have
to join anew. The kind of fault: a change of roster breaks every new study until all sites have
acted, and the reason given does not say so.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cases.real_federation import WORDS, Federation, Hospital
from tests.waiting import until


@pytest.mark.slow
@pytest.mark.xfail(
    strict=True,
    raises=AssertionError,
    reason="The study must run with the four hospitals, or end with a reason that names "
    "`wardround-site join`.",
)
def test_a_study_after_a_fifth_hospital_enrolled(tmp_path: Path) -> None:
    with Federation(tmp_path / "federation", waiting={"join": 8}).start() as federation:
        for name in federation.names:
            Hospital(federation, name)
        federation.online(4)
        federation.enrol("fifth")
        journal = federation.config.event_log
        until(lambda: '"fifth"' in journal.read_text(), "the coordinator knows the fifth")
        study, configuration = federation.study(
            federation.patients(), *WORDS, "rounds=3", "evaluation.every=3"
        )
        digest = federation.submit(study, configuration)
        end = federation.wait_end(digest)
    reason = f"{end.get('message')} {end.get('remedy')}"
    assert end["type"] == "finished" or "join" in reason, f"{end['type']}: {reason}"
