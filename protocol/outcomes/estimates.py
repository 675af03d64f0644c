"""Figures with 95% intervals from counts that were summed over sites, with or without noise.

Every kind of outcome releases counts in which one patient adds to few cells, and computes its
metrics from their sum alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.float64]
"""(..., rows, B): counts over cells; may be noised, even negative."""
Values = npt.NDArray[np.float64]

REPLICATES = 200


@dataclass(frozen=True)
class Estimate:
    """A pooled metric with its bootstrap interval (95%)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Metric:
    """A figure of counts: (..., rows, B) -> (...).

    `label`: its name in tables; `short`: in the line of a round, empty where it is not shown there;
    `low` and `high`: the bounds of its values; `better`: which way it improves, empty where neither
    is better. `from_sums`: it is made of few weighted sums of all cells, whose noise averages out:
    it is computed from the counts as they were opened, which need no projection and have no bias.
    `at_best`: what it could be by the order of patients within a bin, which counts do not tell; an
    interval reaches so much higher.
    """

    of: Callable[[Counts], Values]
    label: str
    short: str = ""
    low: float = 0.0
    high: float = 1.0
    better: Literal["more", "less", ""] = "more"
    from_sums: bool = False
    at_best: Callable[[Counts], Values] | None = None


def estimates(
    counts: Counts,
    metrics: Mapping[str, Metric],
    noise_variance: float = 0.0,
    seed: int = 0,
    *,
    together: int = 1,
) -> dict[str, Estimate]:
    """(rows, B) summed counts, each patient in one cell; variance of each cell's noise -> metrics
    with intervals. One that the counts leave undefined (one label only, no patients) is left out.
    together: how many counts chance may move as one, where a patient has several.

    Noised counts are first projected to the nearest that are not negative and keep each row's
    noised total; the bias which that leaves is estimated by the parametric bootstrap and taken off
    (Efron & Tibshirani 1993, section 10.6). Intervals: by the bootstrap over patients, and
    over noise where there is some (ibid., chapter 13): the union of the percentile and the basic
    interval, since near a bound (an area of .99) neither covers alone, each with and without the
    bias taken off.
    """
    noise = float(np.sqrt(noise_variance))
    generator = np.random.default_rng(seed)
    opened = np.asarray(counts, dtype=np.float64)
    observed = project(opened) if noise > 0 else opened
    total = observed.sum()
    if total <= 0:
        return {}
    drawn = max(1, round(total / together))
    replicates = generator.multinomial(drawn, (observed / total).ravel(), size=REPLICATES)
    resampled = together * replicates.reshape(REPLICATES, *observed.shape).astype(np.float64)
    noised, moved = observed, resampled
    if noise > 0:
        draws = generator.normal(0.0, noise, size=(2, *resampled.shape))
        moved = opened + (resampled - observed) + draws[1]
        noised = project(observed + draws[0])
        resampled = project(resampled + draws[1])
    result = {}
    for name, metric in metrics.items():
        with np.errstate(divide="ignore", invalid="ignore"):
            if metric.from_sums:
                value, spread, bias = float(metric.of(opened)), metric.of(moved), 0.0
            else:
                value, spread = float(metric.of(observed)), metric.of(resampled)
                bias = float(np.nanmean(metric.of(noised))) - value if noise > 0 else 0.0
        spread = spread[np.isfinite(spread)]
        if not np.isfinite(value) or not len(spread):
            continue
        lower, upper = np.quantile(spread, (0.025, 0.975), method="weibull")
        lower, upper = min(lower, 2 * value - upper), max(upper, 2 * value - lower)
        lower, upper = lower - max(bias, 0.0), upper - min(bias, 0.0)
        if metric.at_best is not None:
            upper += max(0.0, float(metric.at_best(observed)) - value)
        corrected, lower, upper = np.clip((value - bias, lower, upper), metric.low, metric.high)
        result[name] = Estimate(
            float(corrected), float(min(lower, corrected)), float(max(upper, corrected))
        )
    return result


def project(counts: Counts) -> Counts:
    """(..., B) -> the nearest (..., B) in L2 that is not negative and has the same sum over B (a
    sum below 0 becomes 0): Duchi et al. 2008, Algorithm 1, row by row."""
    total = np.maximum(counts.sum(axis=-1, keepdims=True), 0.0)
    falling = -np.sort(-counts, axis=-1)
    excess = (np.cumsum(falling, axis=-1) - total) / np.arange(1, counts.shape[-1] + 1)
    last = np.maximum((falling > excess).sum(axis=-1, keepdims=True), 1) - 1
    shift = np.take_along_axis(excess, last, axis=-1)
    return np.asarray(np.maximum(counts - shift, 0.0), dtype=np.float64)


def middles(bins: int) -> Values:
    """(B,) the middles of equal bins of [0, 1]."""
    return np.asarray((np.arange(bins) + 0.5) / bins, dtype=np.float64)


def even_bins(wanted: float, least: int, most: int) -> int:
    """The even number of bins nearest to `wanted`: so that the middle of the range is an edge."""
    return int(np.clip(2 * round(wanted / 2), least, most))


def shown(value: float) -> str:
    """A figure as tables print it: three decimals, or four digits of a large one; "unknown" where
    the counts do not tell it."""
    if math.isnan(value):
        return "unknown"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.4g}"
