"""The weights that training starts from: zero, a prevalence, or a published score.

A published score is points, made without any training. Its log odds / SCALE are the last feature
of a row, and the score's published weight is that feature's first weight: before the first step the
model equals the score, and private training learns only what to change about it.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from protocol.study.study import Scalar
from tasks.base import Task
from tasks.schema import Table

SCALE = 5.0
"""Log odds are divided by this and clipped to [-1, 1]."""


def zero(width: int) -> nn.Linear:
    """A linear head of zeros: the symmetric start of a convex problem, whatever the seed."""
    linear = nn.Linear(width, 1)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


def from_prevalence(width: int, prevalence: float) -> nn.Linear:
    """A linear head that gives everyone the same probability."""
    linear = zero(width)
    nn.init.constant_(linear.bias, math.log(prevalence / (1 - prevalence)))
    return linear


def from_score(width: int) -> nn.Linear:
    """A linear head on `width` features that equals the published score, the last of them."""
    linear = zero(width)
    with torch.no_grad():
        linear.weight[0, -1] = SCALE
    return linear


def with_score(
    rows: npt.NDArray[np.floating], log_odds: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """(N, F) features and (N,) log odds -> (N, F + 1)."""
    scaled = np.clip(log_odds[:, None] / SCALE, -1, 1)
    return np.concatenate([rows, scaled], axis=1).astype(np.float32)


def probability(log_odds: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Log odds -> probability."""
    return np.asarray(1 / (1 + np.exp(-log_odds)))


class LinearFromScore(Task):
    """Base of tasks that fit a logistic regression and know a published score.

    Option `start`: "public_score" adds the score's log odds as a feature with the published weight,
    so that training learns what to change about the score; "zero" leaves the feature out.
    """

    choices: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {"start": ("public_score", "zero")}
    prevalence: ClassVar[float] = 0.1
    """Of label 1 in the literature: where a model without the score starts."""

    @abstractmethod
    def log_odds(self, table: Table) -> npt.NDArray[np.float64]:
        """(N,) log odds of label 1 by the published score."""

    def features(self, table: Table) -> npt.NDArray[np.float32]:
        """(N, F) features of the schema; with the score, its log odds / SCALE as the last one."""
        rows = self.schema.features(table)
        if self.options["start"] == "zero":
            return rows
        return with_score(rows, self.log_odds(table))

    def model(self) -> nn.Module:
        if self.options["start"] == "zero":
            return from_prevalence(self.schema.width, self.prevalence)
        return from_score(self.schema.width + 1)

    def public_score(self, table: Table) -> npt.NDArray[np.float64]:
        """(N,) probabilities by the published score."""
        return probability(self.log_odds(table))
