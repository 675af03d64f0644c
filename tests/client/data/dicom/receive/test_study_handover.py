"""Hand-over of quiet studies: each once, none forgotten when indexing fails."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from client.data.dicom.receive.study_handover import StudyHandover
from tests.waiting import HUNG


def test_a_study_is_handed_over_once_and_again_when_it_failed() -> None:
    calls: list[set[str]] = []
    failed, done = threading.Event(), threading.Event()

    def take_in(studies: Sequence[Path]) -> None:
        names = {study.name for study in studies}
        calls.append(names)
        if "a" in names and not failed.is_set():
            failed.set()
            raise OSError("the disk fails")
        if "a" in names:
            done.set()

    arrivals = StudyHandover(Path("/store"), 0.05, take_in)
    arrivals.note(Path("/store/a"))
    arrivals.start()
    assert done.wait(HUNG)
    arrivals.close()
    assert any("store" in names for names in calls)
    assert sum("a" in names for names in calls) == 2
    assert arrivals.waiting == 0
    assert arrivals.ending()
