"""An attempt is durable before it is asked for, so that no restart repeats or skips one."""

from pathlib import Path

import pytest

from protocol.errors import Code, WardroundError
from server.model import attempt_record
from server.model.attempt_record import record, recorded
from server.model.attempts import Attempts


def test_what_was_begun_after_the_checkpoint_is_lost(tmp_path: Path) -> None:
    saved = Attempts(made=4, trainings=4, evaluations=1, lost=(2,))
    record(tmp_path / "attempts.json", Attempts(made=6, trainings=6, evaluations=2))
    found = recorded(tmp_path / "attempts.json", saved)
    assert found == Attempts(made=6, trainings=6, evaluations=2, lost=(2, 5, 6))


def test_a_checkpoint_that_knows_more_counts(tmp_path: Path) -> None:
    saved = Attempts(made=4, trainings=4, lost=(2,))
    assert recorded(tmp_path / "attempts.json", saved) == saved, "an older release kept no file"
    record(tmp_path / "attempts.json", Attempts(made=3, trainings=3))
    assert recorded(tmp_path / "attempts.json", saved) == saved


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"made": -1, "trainings": 0, "evaluations": 0}', "\xff"]
)
def test_a_damaged_file_stops_the_study(tmp_path: Path, text: str) -> None:
    (tmp_path / "attempts.json").write_text(text)
    with pytest.raises(WardroundError) as caught:
        recorded(tmp_path / "attempts.json", Attempts())
    assert caught.value.code is Code.STATE


def test_attempts_that_a_backup_does_not_know_of_are_counted(tmp_path: Path) -> None:
    """Each as one that trained and evaluated, and that gave no sum which the model has in it."""
    path, known = tmp_path / "attempts.json", Attempts(3, 3, 1, (2,))
    attempt_record.record(path, known)
    assert not attempt_record.is_behind(path)
    attempt_record.put_back(path)
    assert attempt_record.is_behind(path)
    assert attempt_record.skipped(known, 3) == known
    ahead = attempt_record.skipped(known, 6)
    assert ahead == Attempts(6, 6, 4, (2, 4, 5, 6))
    attempt_record.caught_up(path, ahead)
    assert not attempt_record.is_behind(path)
    assert attempt_record.recorded(path, ahead) == ahead
