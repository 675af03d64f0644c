"""The usual losses: their slopes are autograd's, and scores are in the kind's range."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from protocol.outcomes.binary import Binary
from protocol.outcomes.events import EventCount
from protocol.outcomes.kinds import OutcomeKind
from protocol.outcomes.multiclass import Multiclass
from protocol.outcomes.multilabel import MultiLabel
from protocol.outcomes.ordinal import Ordinal
from protocol.outcomes.regression import Regression
from protocol.outcomes.segmentation import UNKNOWN, Segmentation
from protocol.outcomes.time_to_event import TimeToEvent
from tasks.base import Task
from tasks.losses.usual import usual_loss
from tasks.shipped.breast_cancer import BreastCancer
from tasks.shipped.diabetes_progression import DiabetesProgression
from tasks.shipped.digits import Digits

KINDS: tuple[OutcomeKind, ...] = (
    Binary(),
    Multiclass(classes=5),
    MultiLabel(labels=3),
    MultiLabel(labels=15),
    Ordinal(levels=4),
    Regression(low=10, high=50),
    EventCount(most=9),
    TimeToEvent(ends=(1, 2, 5)),
    Segmentation(classes=3, rows=4, columns=5),
)


@pytest.mark.parametrize("kind", KINDS, ids=repr)
def test_slopes_are_those_of_autograd(kind: OutcomeKind) -> None:
    loss, generator = usual_loss(kind), torch.Generator().manual_seed(0)
    shape = (8, loss.width, *kind.label_shape)
    outputs = torch.randn(shape, generator=generator, requires_grad=True)
    labels = torch.linspace(*kind.extremes, 8 * math.prod(kind.label_shape)).round()
    labels = labels.reshape(8, *kind.label_shape)
    losses = loss.losses(outputs, labels)
    assert losses.shape == (8,)
    (slopes,) = torch.autograd.grad(losses.sum(), outputs)
    assert torch.allclose(loss.slopes(outputs, labels), slopes, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS, ids=repr)
def test_scores_are_in_their_range_and_follow_the_loss(kind: OutcomeKind) -> None:
    loss = usual_loss(kind)
    low, high = kind.score_range
    shape = (6, loss.width, *kind.label_shape)
    outputs = torch.linspace(-40, 40, math.prod(shape)).reshape(shape)
    scores = loss.scores(outputs)
    assert scores.shape == (6, *kind.scores_of_one)
    assert ((scores >= low) & (scores <= high)).all()
    if kind.adds_up:
        assert torch.allclose(scores.sum(1), torch.ones(6))


def test_a_prediction_is_best_where_it_is_the_label() -> None:
    loss = usual_loss(Regression(low=10, high=50))
    outputs = torch.linspace(-1, 1, 5)[:, None]
    labels = loss.scores(outputs)
    assert labels.tolist() == [10, 20, 30, 40, 50]
    assert loss.losses(outputs, labels).tolist() == [0] * 5


def test_a_finding_that_nobody_said_anything_of_teaches_nothing() -> None:
    kind = MultiLabel(labels=3)
    loss, outputs = usual_loss(kind), torch.tensor([[2.0, -1.0, 0.5]])
    label = torch.tensor(kind.labels_of(np.array([[1.0, np.nan, 0.0]]))).float()
    assert loss.slopes(outputs, label)[0, 1] == 0
    expected = -torch.log(torch.sigmoid(outputs[0, 0])) - torch.log(
        1 - torch.sigmoid(outputs[0, 2])
    )
    assert loss.losses(outputs, label)[0] == pytest.approx(float(expected))


def test_levels_have_the_likelihood_of_their_probabilities() -> None:
    loss = usual_loss(Ordinal(levels=4))
    outputs = torch.randn(20, 3, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(20) % 4
    own = loss.scores(outputs)[torch.arange(20), labels]
    assert torch.allclose(loss.losses(outputs, labels.float()), -torch.log(own), atol=1e-5)


def test_follow_up_has_the_likelihood_of_its_survival() -> None:
    kind = TimeToEvent(ends=(1, 2, 5))
    loss, outputs = usual_loss(kind), torch.tensor([[0.3, -1.0, 0.8]]).expand(4, 3)
    labels = torch.tensor([0.0, 4.0, 6.0, 3.0])  # nothing seen; two survived; all; event in second
    survival = loss.scores(outputs)[0]
    likelihood = torch.stack(
        [torch.tensor(1.0), survival[1], survival[2], survival[0] - survival[1]]
    )
    assert torch.allclose(loss.losses(outputs, labels), -torch.log(likelihood), atol=1e-6)


MASKS = Segmentation(classes=3, rows=6, columns=6)


def test_a_patients_loss_of_a_mask_is_of_no_other_patient() -> None:
    """A Dice of a whole batch, as some implementations have it, could not be clipped by patient."""
    loss, generator = usual_loss(MASKS), torch.Generator().manual_seed(0)
    outputs = torch.randn(4, 3, 6, 6, generator=generator, requires_grad=True)
    labels = torch.randint(3, (4, 6, 6), generator=generator).float()
    losses = loss.losses(outputs, labels)
    (slope,) = torch.autograd.grad(losses[1], outputs)
    assert slope[1].any()
    assert not slope[[0, 2, 3]].any()
    alone = loss.losses(outputs[1:2], labels[1:2])
    assert torch.allclose(alone, losses[1:2])


def test_a_mask_that_is_right_costs_nothing_and_one_that_is_wrong_much() -> None:
    loss = usual_loss(MASKS)
    labels = torch.arange(36).reshape(1, 6, 6).remainder(3).float()
    right = 40 * torch.nn.functional.one_hot(labels.long(), 3).permute(0, 3, 1, 2).float()
    assert loss.losses(right, labels)[0] < 0.02
    assert torch.equal(loss.scores(right), labels)
    assert loss.losses(-right, labels)[0] > 10
    assert loss.slopes(-1e4 * right, labels).isfinite().all()


def test_pixels_of_which_nobody_said_anything_teach_nothing() -> None:
    loss = usual_loss(MASKS)
    outputs = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    labels = torch.ones(2, 6, 6)
    labels[0, :3], labels[1] = UNKNOWN, UNKNOWN
    slopes = loss.slopes(outputs, labels)
    assert not slopes[0, :, :3].any()
    assert slopes[0, :, 3:].any()
    assert not slopes[1].any()


@pytest.mark.parametrize("task", [BreastCancer, Digits, DiabetesProgression])
def test_a_digest_is_of_the_usual_loss_too(task: type[Task]) -> None:
    loss = type(usual_loss(task.outcome)).__module__.replace(".", "/")
    assert any(source.endswith(f"{loss}.py") for source in task.sources())
