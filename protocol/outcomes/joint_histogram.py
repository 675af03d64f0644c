"""Figures of numbers from a joint histogram of outcome (rows) and prediction (columns).

All are of weighted sums over its cells, each value taken as the middle of its bin; what that adds
to a variance, a twelfth of a bin's square, is taken off (Sheppard 1898).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from protocol.outcomes.estimates import Counts, Metric, Values


@dataclass(frozen=True)
class Axes:
    """(R,) outcomes and (B,) predictions for which the cells stand, and how wide each bin is: 0 of
    a value that stands for itself."""

    outcome: Values
    prediction: Values
    outcome_width: Values
    prediction_width: Values

    @property
    def differences(self) -> Values:
        """(R, B) prediction minus outcome."""
        return np.asarray(self.prediction[None, :] - self.outcome[:, None])

    @property
    def rows(self) -> Values:
        """(R, 1)."""
        return self.outcome[:, None]

    @property
    def columns(self) -> Values:
        """(1, B)."""
        return self.prediction[None, :]

    @property
    def row_grouping(self) -> Values:
        """(R, 1) what bins add to the variance of an outcome."""
        return self.outcome_width[:, None] ** 2 / 12

    @property
    def column_grouping(self) -> Values:
        """(1, B) likewise of a prediction."""
        return self.prediction_width[None, :] ** 2 / 12


def mean(counts: Counts, weights: Values) -> Values:
    """(..., R, B) counts, (R, B) weights -> (...) the weighted mean."""
    return np.asarray((counts * weights).sum(axis=(-2, -1)) / counts.sum(axis=(-2, -1)))


def _variance(counts: Counts, of: Values, grouping: Values) -> Values:
    return mean(counts, of**2 - grouping) - mean(counts, of) ** 2


def mae(counts: Counts, axes: Axes) -> Values:
    """Mean absolute error. Bins do not bias it to second order: what they add at the kink is what
    the sum over whole bins misses."""
    return mean(counts, np.abs(axes.differences))


def _mean_square(counts: Counts, axes: Axes) -> Values:
    return mean(counts, axes.differences**2 - axes.row_grouping - axes.column_grouping)


def rmse(counts: Counts, axes: Axes) -> Values:
    """Root mean squared error; 0 where noise leaves nothing."""
    return np.asarray(np.sqrt(np.maximum(_mean_square(counts, axes), 0.0)))


def r2(counts: Counts, axes: Axes) -> Values:
    """1 - mean squared error / variance of the outcome; undefined where noise leaves none."""
    variance = _variance(counts, axes.rows, axes.row_grouping)
    return np.where(variance > 0, 1 - _mean_square(counts, axes) / variance, np.nan)


def calibration_slope(counts: Counts, axes: Axes) -> Values:
    """Of outcome on prediction by least squares: 1 where they agree, below 1 where predictions are
    too extreme. Undefined where noise leaves the predictions no variance."""
    rows, columns = axes.rows, axes.columns
    both = mean(counts, rows * columns) - mean(counts, rows) * mean(counts, columns)
    variance = _variance(counts, columns, axes.column_grouping)
    return np.where(variance > 0, both / variance, np.nan)


def bias(counts: Counts, axes: Axes) -> Values:
    """Mean prediction minus mean outcome."""
    return mean(counts, axes.differences)


def metrics_of(axes: Callable[[Counts], Axes]) -> dict[str, Metric]:
    """The figures of every such histogram. axes: what the cells of (..., R, B) counts stand for."""

    def of(figure: Callable[[Counts, Axes], Values]) -> Callable[[Counts], Values]:
        return lambda counts: figure(counts, axes(counts))

    far = np.inf
    return {
        "r2": Metric(of(r2), "R2", "R2", low=-far, from_sums=True),
        "mae": Metric(
            of(mae), "mean absolute error", "MAE", high=far, better="less", from_sums=True
        ),
        "rmse": Metric(
            of(rmse), "root mean squared error", "RMSE", high=far, better="less", from_sums=True
        ),
        "calibration_slope": Metric(
            of(calibration_slope),
            "calibration slope",
            low=-far,
            high=far,
            better="",
            from_sums=True,
        ),
        "bias": Metric(
            of(bias),
            "mean prediction minus mean outcome",
            low=-far,
            high=far,
            better="",
            from_sums=True,
        ),
    }


def calibration(table: Counts, axes: Axes) -> list[tuple[float, float]]:
    """(R, B) -> (mean prediction, mean outcome) by groups of predictions; those with less than a
    hundredth of the patients left out."""
    points, bins = [], table.shape[-1]
    low, high = float(axes.outcome.min()), float(axes.outcome.max())
    for group in np.array_split(np.arange(bins), min(10, bins)):
        part = table[:, group]
        if (weight := part.sum()) > max(1.0, table.sum() / 100):
            predicted = float(part.sum(axis=0) @ axes.prediction[group] / weight)
            observed = float(part.sum(axis=1) @ axes.outcome / weight)
            ends = axes.prediction[group]
            points.append(
                (float(np.clip(predicted, ends[0], ends[-1])), float(np.clip(observed, low, high)))
            )
    return points
