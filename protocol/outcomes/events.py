"""How often something happens to a patient, or for how many days: a whole number from 0 on; more
than the public `most` count as `most`.

A site counts its evaluation patients in a joint histogram of outcome, a row for each number, and of
prediction, bins equal in its square root, since the spread of a count grows with that of its mean.
A patient adds 1 to one cell, so the L2 sensitivity is 1.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from protocol.outcomes import joint_histogram
from protocol.outcomes.base import BaseKind, Columns, Labels, Scores
from protocol.outcomes.estimates import (
    Counts,
    Estimate,
    Metric,
    Values,
    estimates,
    even_bins,
    middles,
)
from protocol.outcomes.joint_histogram import Axes, mean

MOST = 63
_MANY = 0.02
"""A share of labels above `most` that a site should know of."""
_FEWEST_BINS, _MOST_BINS = 6, 32


class EventCount(BaseKind):
    """`most`: the public end of what is counted."""

    kind: Literal["event_count"] = "event_count"
    most: int = Field(ge=2, le=MOST)

    # --- labels ---
    def bad(self, columns: Columns) -> tuple[npt.NDArray[np.bool_], str]:
        with np.errstate(invalid="ignore"):
            whole = np.isnan(columns) | ((columns >= 0) & (columns == np.floor(columns)))
        return ~whole | np.isinf(columns), "no whole number from 0 on"

    def labels_of(self, columns: Columns) -> Labels:
        return np.minimum(columns, self.most)

    def doubts(self, columns: Columns) -> list[str]:
        above, said = float(np.mean(columns > self.most)), []
        if above > _MANY:
            said.append(
                f"{above:.1%} of the labels are above {self.most}, the most that is counted: is "
                "the view right?"
            )
        if len(columns) > 1 and len(set(columns)) == 1:
            said.append("Every row has the same label: is the view right?")
        return said

    @property
    def extremes(self) -> tuple[float, float]:
        return 0.0, float(self.most)

    # --- scores ---
    @property
    def score_range(self) -> tuple[float, float]:
        return 0.0, float(self.most)

    @property
    def score_columns(self) -> tuple[str, ...]:
        return ("prediction",)

    @property
    def score_meaning(self) -> str:
        return f"the expected {{label}}, {self.most} at most"

    # --- the released evaluation ---
    def cells(self, bins: int) -> int:
        return (self.most + 1) * bins

    @property
    def squared_sensitivity(self) -> int:
        return 1

    def counts(self, scores: Scores, labels: Labels, bins: int) -> npt.NDArray[np.int64]:
        finite = np.where(np.isfinite(scores), scores, self.most / 2).astype(np.float64)
        root = np.sqrt(np.clip(finite / self.most, 0, 1))
        cell = labels.astype(np.int64) * bins + np.clip(np.floor(root * bins), 0, bins - 1)
        return np.bincount(cell.astype(np.int64), minlength=self.cells(bins)).astype(np.int64)

    def bins_for(self, patients: int, noise: float) -> int:
        """As of a number within a range."""
        wanted = _MOST_BINS if noise <= 0 else (patients / noise) ** (1 / 3)
        return even_bins(wanted, _FEWEST_BINS, _MOST_BINS)

    # --- figures ---
    @property
    def metrics(self) -> dict[str, Metric]:
        return METRICS

    @property
    def compared(self) -> tuple[str, str]:
        return "d2", "mae"

    @property
    def chance(self) -> float:
        return 0.0

    def pooled(
        self, opened: Counts, bins: int, noise_variance: float = 0.0, seed: int = 0
    ) -> dict[str, Estimate]:
        return estimates(opened.reshape(self.most + 1, bins), METRICS, noise_variance, seed)

    def figures_of(self, scores: Scores, labels: Labels) -> dict[str, float]:
        expected, usual = np.maximum(scores.astype(np.float64), 1e-9), float(np.mean(labels))
        lost = float(np.mean(expected - labels * np.log(expected)))
        of_usual = usual - usual * np.log(usual) if usual > 0 else np.nan
        own = np.where(labels > 0, labels * np.log(np.maximum(labels, 1)) - labels, 0.0)
        best = -float(np.mean(own))
        return {
            "d2": 1 - (lost - best) / (of_usual - best),
            "mae": float(np.mean(np.abs(scores - labels))),
        }

    def calibration(self, opened: Counts, bins: int) -> list[tuple[float, float]]:
        table = opened.reshape(self.most + 1, bins)
        return joint_histogram.calibration(table, _axes(table))


def _axes(counts: Counts) -> Axes:
    rows, bins = counts.shape[-2:]
    edges = (np.arange(bins + 1) / bins) ** 2 * (rows - 1)
    values = np.arange(rows, dtype=np.float64)
    return Axes(values, middles(bins) ** 2 * (rows - 1), np.zeros(rows), np.diff(edges))


def d2(counts: Counts) -> Values:
    """1 - Poisson deviance of the predictions / that of the mean outcome (McCullagh and Nelder
    1989): R2 for counts. Undefined where noise leaves no deviance."""
    axes = _axes(counts)
    own = np.where(axes.rows > 0, axes.rows * np.log(np.maximum(axes.rows, 1)) - axes.rows, 0.0)
    best = mean(counts, np.broadcast_to(own, counts.shape[-2:]))
    lost = mean(counts, axes.columns - axes.rows * np.log(axes.columns))
    usual = mean(counts, np.broadcast_to(axes.rows, counts.shape[-2:]))
    of_usual = usual - usual * np.log(np.where(usual > 0, usual, np.nan))
    spread = of_usual + best
    return np.where(spread > 0, 1 - (lost + best) / spread, np.nan)


METRICS: dict[str, Metric] = {
    "d2": Metric(d2, "deviance explained (D2)", "D2", low=-np.inf, from_sums=True),
    **joint_histogram.metrics_of(_axes),
}
