"""Several things at once that may each be so of a patient, such as findings in a picture.

A view has a column for each, 1, 0 or NULL where nobody said; a row with none of them has no label.
A label is one number, whose digits to base 3 are the columns: 0 missing, 1 no, 2 yes. A score is
the probability of each. A site counts a histogram for each column as of a binary outcome, of those
of whom it is known; a patient adds 1 to one cell of each, so the squared L2 sensitivity is the
number of columns.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from protocol.outcomes import binary, by_label
from protocol.outcomes.base import MAX_BINS, BaseKind, Columns, Labels, Scores
from protocol.outcomes.estimates import Counts, Estimate, Metric, even_bins

MOST_LABELS = 15
"""Whose digits float32 keeps: 3^15 is below 2^24."""


class MultiLabel(BaseKind):
    """`labels`: how many columns; what each says, the task's schema names."""

    kind: Literal["multilabel"] = "multilabel"
    labels: int = Field(ge=2, le=MOST_LABELS)

    # --- labels ---
    @property
    def label_columns(self) -> int:
        return self.labels

    def bad(self, columns: Columns) -> tuple[npt.NDArray[np.bool_], str]:
        known = np.isin(columns, (0.0, 1.0)) | np.isnan(columns)
        return np.asarray(~known.all(axis=1)), "a label is neither 0 nor 1"

    def labels_of(self, columns: Columns) -> Labels:
        digits = np.where(np.isnan(columns), 0.0, 1.0 + (columns == 1))
        return np.where(np.isnan(columns).all(axis=1), np.nan, digits @ self._powers)

    def doubts(self, columns: Columns) -> list[str]:
        unseen = [
            str(place)
            for place, column in enumerate(columns.T, start=1)
            if not {0.0, 1.0} <= set(column)
        ]
        if not unseen:
            return []
        return [
            f"Of the label's columns, the one at place {', '.join(unseen)} never has both values: "
            "is the view right?"
        ]

    @property
    def extremes(self) -> tuple[float, float]:
        """Each known and 0, each known and 1."""
        return float(self._powers.sum()), float(2 * self._powers.sum())

    @property
    def _powers(self) -> npt.NDArray[np.float64]:
        return np.asarray(3.0 ** np.arange(self.labels), dtype=np.float64)

    def digits(self, labels: Labels) -> npt.NDArray[np.float64]:
        """(N,) labels -> (N, labels) 0 or 1, NaN where missing."""
        digits = np.floor(labels[:, None] / self._powers) % 3
        return np.where(digits == 0, np.nan, digits - 1)

    # --- scores ---
    @property
    def scores_of_one(self) -> tuple[int, ...]:
        return (self.labels,)

    @property
    def score_columns(self) -> tuple[str, ...]:
        return tuple(f"score_{k}" for k in range(self.labels))

    @property
    def score_meaning(self) -> str:
        return "the probability of each of {label}, in the order of their columns"

    # --- the released evaluation ---
    def cells(self, bins: int) -> int:
        return self.labels * 2 * bins

    @property
    def squared_sensitivity(self) -> int:
        return self.labels

    @property
    def added(self) -> int:
        return self.labels

    def counts(self, scores: Scores, labels: Labels, bins: int) -> npt.NDArray[np.int64]:
        known = self.digits(labels)
        return np.concatenate(
            [
                binary.histogram(score[~np.isnan(own)], own[~np.isnan(own)], bins).ravel()
                for score, own in zip(scores.T, known.T, strict=True)
            ]
        )

    def bins_for(self, patients: int, noise: float) -> int:
        """As for a binary outcome, but that average precision of a rare label needs more."""
        if noise <= 0:
            return MAX_BINS // 4
        return even_bins(2 * (patients / noise) ** 0.4, 8, MAX_BINS // 4)

    # --- figures ---
    @property
    def metrics(self) -> dict[str, Metric]:
        return by_label.SUMMARIES | by_label.of_labels(self.labels)

    @property
    def compared(self) -> tuple[str, str]:
        return "macro_auc", "macro_average_precision"

    def pooled(
        self, opened: Counts, bins: int, noise_variance: float = 0.0, seed: int = 0
    ) -> dict[str, Estimate]:
        parts = opened.reshape(self.labels, 2, bins)
        found = by_label.pooled(parts, noise_variance, seed, together=self.labels)
        return by_label.by_name(self.metrics, found)

    def figures_of(self, scores: Scores, labels: Labels) -> dict[str, float]:
        known = self.digits(labels)
        return {
            f"macro_{name}": by_label.macro(scores, known, metric)
            for name, metric in by_label.OF_EACH.items()
        }

    def calibration(self, opened: Counts, bins: int) -> list[tuple[float, float]]:
        """Of all labels together."""
        return binary.calibration_points(opened.reshape(self.labels, 2, bins).sum(axis=0))
