"""The usual losses: their slopes are autograd's, and scores are in the kind's range."""

from __future__ import annotations

import pytest
import torch

from protocol.outcomes.binary import Binary
from protocol.outcomes.kinds import OutcomeKind
from protocol.outcomes.multiclass import Multiclass
from protocol.outcomes.regression import Regression
from tasks.base import Task
from tasks.losses.usual import usual_loss
from tasks.shipped.breast_cancer import BreastCancer
from tasks.shipped.diabetes_progression import DiabetesProgression
from tasks.shipped.digits import Digits

KINDS: tuple[OutcomeKind, ...] = (Binary(), Multiclass(classes=5), Regression(low=10, high=50))


@pytest.mark.parametrize("kind", KINDS, ids=repr)
def test_slopes_are_those_of_autograd(kind: OutcomeKind) -> None:
    loss, generator = usual_loss(kind), torch.Generator().manual_seed(0)
    outputs = torch.randn(8, loss.width, generator=generator, requires_grad=True)
    labels = torch.linspace(*kind.extremes, 8).round()
    losses = loss.losses(outputs, labels)
    assert losses.shape == (8,)
    (slopes,) = torch.autograd.grad(losses.sum(), outputs)
    assert torch.allclose(loss.slopes(outputs, labels), slopes, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS, ids=repr)
def test_scores_are_in_their_range_and_follow_the_loss(kind: OutcomeKind) -> None:
    loss = usual_loss(kind)
    low, high = kind.score_range
    outputs = torch.linspace(-40, 40, 6 * loss.width).reshape(6, loss.width)
    scores = loss.scores(outputs)
    assert scores.shape == (6, *kind.scores_of_one)
    assert ((scores >= low) & (scores <= high)).all()


def test_a_prediction_is_best_where_it_is_the_label() -> None:
    loss = usual_loss(Regression(low=10, high=50))
    outputs = torch.linspace(-1, 1, 5)[:, None]
    labels = loss.scores(outputs)
    assert labels.tolist() == [10, 20, 30, 40, 50]
    assert loss.losses(outputs, labels).tolist() == [0] * 5


@pytest.mark.parametrize("task", [BreastCancer, Digits, DiabetesProgression])
def test_a_digest_is_of_the_usual_loss_too(task: type[Task]) -> None:
    loss = type(usual_loss(task.outcome)).__module__.replace(".", "/")
    assert any(source.endswith(f"{loss}.py") for source in task.sources())
