"""A task whose training can be followed with a pencil: one weight w, loss (w - label)^2 / 2.

The gradient of a patient is w - label, whatever his features; w starts at 0.5.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from client.data.cohort import Cohort
from client.training.sampling import Batch
from protocol.study.study import Evaluation
from tasks.base import Task
from tasks.schema import PATIENT, SPLIT, Column, Schema

START = 0.5


class Quadratic(Task):
    name = "quadratic"
    title = "one weight"
    schema = Schema((Column("x", "1", low=-1, high=1, flag_missing=False),), "y", "a label")

    def model(self) -> nn.Module:
        linear = nn.Linear(1, 1, bias=False)
        nn.init.constant_(linear.weight, START)
        return linear

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return (outputs[:, 0] - labels) ** 2 / 2


class Normalised(Quadratic):
    """A model with normalisation layers of its own kind."""

    name = "normalised"

    def model(self) -> nn.Module:
        return nn.Sequential(
            nn.Linear(1, 4), nn.GroupNorm(2, 4), nn.Tanh(), nn.LayerNorm(4), nn.Linear(4, 1)
        )

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.binary_cross_entropy_with_logits(
            outputs[:, 0], labels, reduction="none"
        )


class Exploding(Quadratic):
    """Ends in numbers that are no longer finite after a few steps of a large rate."""

    name = "exploding_quadratic"

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return 1e30 * (outputs[:, 0] - labels) ** 4


class ExplodingNormalised(Exploding):
    """The same over normalisation layers."""

    name = "exploding_normalised"
    model = Normalised.model


def labelled(*labels: float) -> Batch:
    """One patient for each label, x = 1."""
    return Batch(torch.ones(len(labels), 1), torch.tensor(labels))


def cohort(*labels: int, task: Task | None = None, width: float = 0.0) -> Cohort:
    """A site whose patients with these labels train; one of each label evaluates.

    width: how far apart x lies from patient to patient; 0: x is 1 for everybody."""
    count = len(labels) + 2
    table = {
        PATIENT: np.array([f"p{k}" for k in range(count)], dtype=object),
        "x": 1.0 - width * np.arange(count) / count,
        "y": np.array([*labels, 0, 1], dtype=np.float64),
        SPLIT: np.array(["train"] * len(labels) + ["evaluation"] * 2, dtype=object),
    }
    plan = Evaluation(release="exact", split="column")
    return Cohort.build(task or Quadratic(), table, lambda name: 0.0, plan)
