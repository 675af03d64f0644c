"""A coordinator put back from a backup, in another folder: no site's operator has to act, and what
is repeated is counted twice."""

from __future__ import annotations

from pathlib import Path

from server.coordinator.operations.backup import backup, restore
from server.model.attempts import Attempts
from tests.cases.real_federation import WORDS, Federation, Hospital

ROUNDS = 12


def test_it_goes_on_above_what_its_sites_have_answered(tmp_path: Path) -> None:
    with Federation(tmp_path / "federation") as federation:
        federation.start()
        hospitals = [Hospital(federation, name) for name in federation.names]
        federation.online(4)
        words = (*WORDS, f"rounds={ROUNDS}", "aggregation.spare_attempts=12")
        study, configuration = federation.study(federation.patients(), *words)
        digest = federation.submit(study, configuration)
        assert federation.wait_round(digest, 2)
        backup(federation.config, tmp_path / "backup.tar.gz")
        assert federation.wait_round(digest, 5)
        federation.stop()
        lost = federation.config.folder
        assert federation.end(digest) is None, "the study ended before the coordinator was lost"
        lost.rename(tmp_path / "lost")
        answered = max(hospital.governance.last_attempt(study) for hospital in hospitals)
        assert answered >= 5

        federation.config = restore(tmp_path / "backup.tar.gz", tmp_path / "elsewhere" / "new")
        known = federation.rounds(digest)
        assert known < answered
        federation.start()
        last = federation.wait_end(digest)
        assert last["type"] == "finished", last
        events = [event for event in federation.events(digest) if event["type"] == "round"]
        repeated = [event["attempt"] for event in events[known + 1 :]]
        assert min(repeated) > answered, "no attempt is asked for twice"
        assert len(events) == ROUNDS
        made = max(repeated)
        both = Attempts(made=made, trainings=made).epsilon(study)
        assert both is not None
        assert last["outcome"]["epsilon"] >= both, "the repeated rounds are in epsilon"
        for hospital in hospitals:
            assert hospital.governance.audit.verify() > 0
