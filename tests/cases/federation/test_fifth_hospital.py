"""A change of the roster does not break new studies without a word.

A fifth hospital is enrolled, and the operators of the four others have not confirmed its key yet. A
study for all five runs with the four, and says who has not confirmed whom. The kind of fault: a
change of roster breaks every new study until all sites have acted, and the reason given does not
say so.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cases.real_federation import WORDS, Federation, Hospital
from tests.waiting import until


@pytest.mark.slow
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
        said = [event for event in federation.events(digest) if event.get("why") == "unconfirmed"]
    assert end["type"] == "finished", f"{end['type']}: {end.get('message')}"
    assert said
    assert "north has not confirmed fifth" in said[0]["sites"]
