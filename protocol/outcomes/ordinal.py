"""Which of several ordered levels a patient reaches, such as a grade: the label is 0, 1 ... K - 1.

What is released is that of classes (`protocol.outcomes.classes`); as the level that the model says
the matrix counts the median one.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from protocol.outcomes.base import Scores
from protocol.outcomes.classes import MOST_CLASSES, ClassesKind
from protocol.outcomes.estimates import Counts, Metric, Values
from protocol.outcomes.multiclass import accuracy


class Ordinal(ClassesKind):
    """`levels`: how many, the lowest first."""

    kind: Literal["ordinal"] = "ordinal"
    levels: int = Field(ge=3, le=MOST_CLASSES)

    @property
    def number(self) -> int:
        return self.levels

    @property
    def of_matrix(self) -> dict[str, Metric]:
        return _OF_MATRIX

    @property
    def compared(self) -> tuple[str, str]:
        return "quadratic_kappa", "macro_auc"

    @property
    def chance(self) -> float:
        return 0.0

    def said(self, scores: Scores) -> npt.NDArray[np.int64]:
        """The median: the first level at or below which half of the probability lies."""
        below = np.cumsum(scores, axis=1)[:, :-1]
        return np.asarray((below < 0.5).sum(axis=1), dtype=np.int64)


def quadratic_kappa(matrix: Counts) -> Values:
    """(..., K, K) -> 1 - mean squared distance of level and said level / that of chance, which
    keeps both margins (Cohen 1968)."""
    levels = np.arange(matrix.shape[-1])
    distance = (levels[:, None] - levels[None, :]) ** 2
    total = matrix.sum(axis=(-2, -1))
    own, said = matrix.sum(axis=-1), matrix.sum(axis=-2)
    by_chance = np.einsum("...i,ij,...j->...", own, distance, said) / total
    return np.asarray(1 - (matrix * distance).sum(axis=(-2, -1)) / by_chance)


_OF_MATRIX = {
    "quadratic_kappa": Metric(
        quadratic_kappa, "quadratic kappa", "kappa", low=-1.0, from_sums=True
    ),
    "accuracy": Metric(accuracy, "accuracy", from_sums=True),
}
