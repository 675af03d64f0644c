"""A study that failed because hospitals had left goes on once they are back.

Two of four hospitals leave in mid-study, and the study fails. They come back and the same study is
submitted again, as the remedy says. The ledgers have room and the checkpoint is there, so it must
go on from there. The kind of fault: after "failed" nothing brings a study back, though its remedy
says so, since every site remembers the last attempt and the coordinator begins at the first.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cases.real_federation import WORDS, Federation, Hospital

LEAVING = ("south", "west")


@pytest.mark.slow
def test_a_failed_study_goes_on_once_the_hospitals_are_back(tmp_path: Path) -> None:
    with Federation(tmp_path / "federation", waiting={"join": 8}).start() as federation:
        study, configuration = federation.study(
            federation.patients(), *WORDS, "rounds=6", "evaluation.every=6"
        )
        hospitals = {name: Hospital(federation, name) for name in federation.names}
        federation.online(4)
        for name in LEAVING:
            hospitals[name].leaves_in = 3
        digest = federation.submit(study, configuration)
        for name in LEAVING:
            hospitals[name].wait_left()
        first = federation.wait_end(digest)
        if first["type"] != "failed":
            raise RuntimeError(f"without two hospitals the study should fail: {first}")
        for name in LEAVING:
            Hospital(federation, name)
        federation.online(4)
        before = len(federation.events(digest))
        federation.submit(study, configuration)
        last = federation.wait_end(digest, before)
    assert last["type"] == "finished", last.get("message")
