"""Which of several classes a patient belongs to: see `protocol.outcomes.classes`."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from protocol.outcomes.base import Scores
from protocol.outcomes.classes import MOST_CLASSES, ClassesKind
from protocol.outcomes.estimates import Counts, Metric, Values


class Multiclass(ClassesKind):
    """`classes`: how many."""

    kind: Literal["multiclass"] = "multiclass"
    classes: int = Field(ge=3, le=MOST_CLASSES)

    @property
    def number(self) -> int:
        return self.classes

    @property
    def of_matrix(self) -> dict[str, Metric]:
        return _OF_MATRIX

    @property
    def compared(self) -> tuple[str, str]:
        return "macro_auc", "accuracy"

    def said(self, scores: Scores) -> npt.NDArray[np.int64]:
        """The likeliest."""
        return np.asarray(scores.argmax(axis=1), dtype=np.int64)


def accuracy(matrix: Counts) -> Values:
    """Share of patients of whom the model says their own class."""
    diagonal = np.trace(matrix, axis1=-2, axis2=-1)
    return np.asarray(diagonal / matrix.sum(axis=(-2, -1)))


_OF_MATRIX = {"accuracy": Metric(accuracy, "accuracy", "accuracy", from_sums=True)}
