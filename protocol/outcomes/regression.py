"""A number within a public range, such as a laboratory value or a score; labels beyond the range
count as its ends.

A site counts its evaluation patients in a joint histogram of outcome and prediction. A patient adds
1 to one cell, so the L2 sensitivity is 1.
"""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field
from pydantic import model_validator as validator

from protocol.outcomes import joint_histogram
from protocol.outcomes.base import BaseKind, Columns, Labels, Scores
from protocol.outcomes.estimates import Counts, Estimate, Metric, estimates, even_bins, middles
from protocol.outcomes.joint_histogram import Axes

_MANY = 0.02
"""A share of labels beyond the public range that a site should know of."""
_FEWEST, _MOST = 6, 32


class Regression(BaseKind):
    """`low` and `high`: the public range, in the label's own unit."""

    kind: Literal["regression"] = "regression"
    low: float = Field(ge=-1e12, le=1e12)
    high: float = Field(ge=-1e12, le=1e12)

    @validator(mode="after")
    def _in_order(self) -> Self:
        if not self.low < self.high:
            raise ValueError("low must be below high")
        return self

    def bad(self, columns: Columns) -> tuple[npt.NDArray[np.bool_], str]:
        return np.isinf(columns), "no finite number"

    def labels_of(self, columns: Columns) -> Labels:
        return np.clip(columns, self.low, self.high)

    def doubts(self, columns: Columns) -> list[str]:
        outside = float(np.mean((columns < self.low) | (columns > self.high)))
        said = []
        if outside > _MANY:
            said.append(
                f"{outside:.1%} of the labels are beyond the public range {self.low:g} to "
                f"{self.high:g} and count as its ends: is the unit right?"
            )
        if len(columns) > 1 and len(set(columns)) == 1:
            said.append("Every row has the same label: is the view right?")
        return said

    @property
    def extremes(self) -> tuple[float, float]:
        return self.low, self.high

    @property
    def whole(self) -> bool:
        return False

    @property
    def score_range(self) -> tuple[float, float]:
        return self.low, self.high

    @property
    def score_columns(self) -> tuple[str, ...]:
        return ("prediction",)

    @property
    def score_meaning(self) -> str:
        return f"the expected {{label}}, from {self.low:g} to {self.high:g}"

    def cells(self, bins: int) -> int:
        return bins * bins

    @property
    def squared_sensitivity(self) -> int:
        return 1

    def counts(self, scores: Scores, labels: Labels, bins: int) -> npt.NDArray[np.int64]:
        """Row by outcome, column by prediction."""
        cell = self._bin(labels, bins) * bins + self._bin(scores, bins)
        return np.bincount(cell, minlength=bins * bins).astype(np.int64)

    def _bin(self, values: Scores | Labels, bins: int) -> npt.NDArray[np.int64]:
        middle = (self.low + self.high) / 2
        finite = np.where(np.isfinite(values), values, middle).astype(np.float64)
        share = (finite - self.low) / (self.high - self.low)
        return np.clip(np.floor(share * bins), 0, bins - 1).astype(np.int64)

    def bins_for(self, patients: int, noise: float) -> int:
        """Noise of all cells adds up, so that its part in a mean square grows with the bins, and
        what bins cost falls fast once they are as wide as the errors are."""
        wanted = _MOST if noise <= 0 else (patients / noise) ** (1 / 3)
        return even_bins(wanted, _FEWEST, _MOST)

    @property
    def metrics(self) -> dict[str, Metric]:
        return METRICS

    @property
    def compared(self) -> tuple[str, str]:
        return "r2", "mae"

    @property
    def chance(self) -> float:
        return 0.0

    def pooled(
        self, opened: Counts, bins: int, noise_variance: float = 0.0, seed: int = 0
    ) -> dict[str, Estimate]:
        found = estimates(opened.reshape(bins, bins), METRICS, noise_variance, seed)
        width = self.high - self.low
        return {name: _times(of, width if name in _IN_UNITS else 1) for name, of in found.items()}

    def figures_of(self, scores: Scores, labels: Labels) -> dict[str, float]:
        errors = scores.astype(np.float64) - labels
        spread = float(np.mean((labels - np.mean(labels)) ** 2))
        r2 = 1 - float(np.mean(errors**2)) / spread if spread > 0 else np.nan
        return {"r2": r2, "mae": float(np.mean(np.abs(errors)))}

    def calibration(self, opened: Counts, bins: int) -> list[tuple[float, float]]:
        width = self.high - self.low
        points = joint_histogram.calibration(opened.reshape(bins, bins), _parts(bins))
        return [(self.low + width * a, self.low + width * b) for a, b in points]


def _parts(bins: int) -> Axes:
    """Equal bins, in parts of the range."""
    middle, width = middles(bins), np.full(bins, 1 / bins)
    return Axes(middle, middle, width, width)


def _times(of: Estimate, factor: float) -> Estimate:
    return Estimate(of.value * factor, of.low * factor, of.high * factor)


METRICS = joint_histogram.metrics_of(lambda counts: _parts(counts.shape[-1]))
_IN_UNITS = {"mae", "rmse", "bias"}
