"""What epsilon is computed from: every attempt, from before it is asked, lost or not."""

from pathlib import Path

import pytest
import torch

from protocol.privacy.releases import spent_epsilon
from protocol.study.vector_layout import Sections
from server.model.attempts import Attempts
from server.model.checkpoint import Checkpoint
from tests.protocol.study_document import study

STUDY = study(evaluation__every=5)
TRAINS = Sections(STUDY, train=True, evaluate=False)
BOTH = Sections(STUDY, train=True, evaluate=True)
CLOSES = Sections(STUDY, train=False, evaluate=True)


def test_an_attempt_counts_whatever_becomes_of_it() -> None:
    made = Attempts().begin(TRAINS).lose().begin(TRAINS).begin(BOTH).lose().begin(CLOSES)
    assert made == Attempts(made=4, trainings=3, evaluations=2, lost=(1, 3))
    assert made.epsilon(STUDY) == spent_epsilon(STUDY, 3, 2)
    assert made.epsilon(STUDY, broken=True) == spent_epsilon(STUDY, 3, 2, broken=True)


def test_what_was_counted_before_stays_as_it_was() -> None:
    before = Attempts().begin(TRAINS)
    before.begin(BOTH)
    before.lose()
    assert before == Attempts(made=1, trainings=1)


def test_nothing_is_spent_before_the_first_attempt_nor_without_privacy() -> None:
    assert Attempts().epsilon(STUDY) == 0
    exact = study(
        privacy={"mode": "none"}, evaluation={"release": "exact", "fraction": 0.3}, nonce="1" * 16
    )
    assert Attempts(3, 3, 1).epsilon(exact) is None
    assert Attempts(3, 3, 1).epsilon_so_far(exact) is None


@pytest.mark.parametrize("used", [1, 2, 3, 19, 20, 23])
def test_what_is_said_on_the_way_is_never_below_what_is_spent(used: int) -> None:
    attempts = Attempts(made=used, trainings=used, evaluations=used // 5)
    spent, said = attempts.epsilon(STUDY), attempts.epsilon_so_far(STUDY)
    assert spent is not None
    assert said is not None
    assert 0 < spent <= said


def test_they_stand_in_the_checkpoint_under_the_names_of_the_first_release(tmp_path: Path) -> None:
    made = Attempts(made=7, trainings=6, evaluations=2, lost=(3,))
    fields = {
        "study": "a" * 64,
        "round": 5,
        "attempt": 7,
        "trainings": 6,
        "evaluations": 2,
        "weights": torch.zeros(3),
        "average": None,
        "averaged": 0,
        "optimiser": {},
        "control": None,
        "lost": [3],
        "stopping": (None, None, 0),
        "pending": None,
    }
    torch.save(fields, tmp_path / "checkpoint.pt")
    found = Checkpoint.load(tmp_path / "checkpoint.pt", "a" * 64)
    assert found is not None
    assert found.attempts == made
