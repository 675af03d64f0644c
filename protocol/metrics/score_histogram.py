"""Score histograms: each site sends one, masked; pooled metrics are computed from their sum.

A site counts its evaluation patients by label and score bin; the sum over sites holds nearly all
that pooled scores would (ROC area to 1e-3 with 512 bins). A patient adds 1 to one cell, so the L2
sensitivity is 1, and noise of deviation s on each cell is one event of noise multiplier s. Noise
favours few bins: see `calibration.bins_for`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Histogram = npt.NDArray[np.float64]
"""(..., 2, B): counts of label 0 and of label 1 by score bin; may be noised, even negative."""
Values = npt.NDArray[np.float64]

REPLICATES = 200
_SPECIFICITY = 0.9
_ROUNDING = 1e-9
"""Of sums of shares, far below one patient's."""


@dataclass(frozen=True)
class Estimate:
    """A pooled metric with its bootstrap interval (95%)."""

    value: float
    low: float
    high: float


def histogram(
    scores: npt.NDArray[np.floating], labels: npt.NDArray[np.generic], bins: int
) -> npt.NDArray[np.int64]:
    """(N,) scores in [0, 1], (N,) labels in {0, 1} -> (2, bins) counts, equal-width bins.

    Bin b holds b/bins <= score < (b+1)/bins, the last one 1 too. A score that is not finite
    counts as 0.5: dropping it would let the count tell of it.
    """
    finite = np.where(np.isfinite(scores), scores, 0.5).astype(np.float64)
    cell = np.clip(np.floor(finite * bins), 0, bins - 1).astype(np.int64)
    flat = np.bincount((labels.astype(np.int64) == 1) * bins + cell, minlength=2 * bins)
    return flat.reshape(2, bins).astype(np.int64)


def pooled_metrics(
    counts: Histogram, noise_variance: float = 0.0, seed: int = 0
) -> dict[str, Estimate]:
    """(2, B) summed histogram, variance of each cell's noise -> pooled metrics with intervals.

    Keys: those of METRICS. A metric that the histogram leaves undefined (one label only, no
    patients) is left out.

    Noised counts are first projected to the nearest that are not negative and keep each label's
    noised total; the bias which that leaves is estimated by the parametric bootstrap and taken off
    (Efron & Tibshirani 1993, section 10.6). Intervals: for exact counts the percentile bootstrap
    over patients (ibid., chapter 13); for noised ones over patients and noise, and the union of
    the percentile and the basic interval, since near a bound (an area of .99) neither covers alone.
    """
    noise = float(np.sqrt(noise_variance))
    generator = np.random.default_rng(seed)
    observed = np.asarray(counts, dtype=np.float64)
    if noise > 0:
        observed = project(observed)
    total = observed.sum()
    if total <= 0:
        return {}
    replicates = generator.multinomial(round(total), (observed / total).ravel(), size=REPLICATES)
    resampled = replicates.reshape(REPLICATES, *observed.shape).astype(np.float64)
    noised = observed
    if noise > 0:
        draws = generator.normal(0.0, noise, size=(2, *resampled.shape))
        noised = project(observed + draws[0])
        resampled = project(resampled + draws[1])
    result = {}
    for name, (metric, low, high) in METRICS.items():
        with np.errstate(divide="ignore", invalid="ignore"):
            value = float(metric(observed))
            spread = metric(resampled)
            bias = float(np.nanmean(metric(noised))) - value if noise > 0 else 0.0
        spread = spread[np.isfinite(spread)]
        if not np.isfinite(value) or not len(spread):
            continue
        lower, upper = np.quantile(spread, (0.025, 0.975))
        if noise > 0:
            lower, upper = min(lower, 2 * value - upper), max(upper, 2 * value - lower)
        corrected, lower, upper = np.clip((value - bias, lower, upper), low, high)
        result[name] = Estimate(
            float(corrected), float(min(lower, corrected)), float(max(upper, corrected))
        )
    return result


def project(counts: Histogram) -> Histogram:
    """(..., B) -> the nearest (..., B) in L2 that is not negative and has the same sum over B (a
    sum below 0 becomes 0): Duchi et al. 2008, Algorithm 1, row by row."""
    total = np.maximum(counts.sum(axis=-1, keepdims=True), 0.0)
    falling = -np.sort(-counts, axis=-1)
    excess = (np.cumsum(falling, axis=-1) - total) / np.arange(1, counts.shape[-1] + 1)
    last = np.maximum((falling > excess).sum(axis=-1, keepdims=True), 1) - 1
    shift = np.take_along_axis(excess, last, axis=-1)
    return np.asarray(np.maximum(counts - shift, 0.0), dtype=np.float64)


def calibration_points(counts: Histogram) -> list[tuple[float, float]]:
    """(2, B) histogram -> (mean score, observed share of label 1) of at most ten neighbouring
    groups of bins, those without patients left out. Noised counts are projected first."""
    middle, whole = _middles(counts), project(counts)
    points = []
    for bins in np.array_split(np.arange(counts.shape[-1]), min(10, counts.shape[-1])):
        weight = whole[:, bins].sum()
        if weight >= 1:
            score = float((whole[:, bins].sum(axis=0) * middle[bins]).sum() / weight)
            points.append((score, float(whole[1, bins].sum() / weight)))
    return points


def roc_auc(counts: Histogram) -> Values:
    """P(score of a 1 > score of a 0) + half P(equal): Mann-Whitney with ties."""
    negative, positive = counts[..., 0, :], counts[..., 1, :]
    below = np.cumsum(negative, axis=-1) - negative / 2
    pairs = positive.sum(axis=-1) * negative.sum(axis=-1)
    return np.asarray((positive * below).sum(axis=-1) / pairs)


def average_precision(counts: Histogram) -> Values:
    """Sum over falling thresholds of (recall step) x precision, one step for each bin."""
    hits = np.cumsum(counts[..., 1, ::-1], axis=-1)
    called = np.cumsum(counts.sum(axis=-2)[..., ::-1], axis=-1)
    precision = np.where(called > 0, hits / np.where(called > 0, called, 1.0), 0.0)
    steps = counts[..., 1, ::-1]
    return np.asarray((steps * precision).sum(axis=-1) / steps.sum(axis=-1))


def brier(counts: Histogram) -> Values:
    """Mean squared distance of score and label, each score taken as the middle of its bin."""
    middle = _middles(counts)
    return _mean(counts, np.stack([middle**2, (1 - middle) ** 2]))


def log_loss(counts: Histogram) -> Values:
    """Mean negative log likelihood in nats, each score taken as the middle of its bin."""
    middle = _middles(counts)
    return _mean(counts, -np.log(np.stack([1 - middle, middle])))


def accuracy(counts: Histogram) -> Values:
    """Share of patients on the right side of .5; with odd B the middle bin counts half."""
    upper = _called(counts)
    return _mean(counts, np.stack([1 - upper, upper]))


def sensitivity(counts: Histogram) -> Values:
    """Share of label 1 scored .5 or more."""
    positive = counts[..., 1, :]
    return np.asarray((positive * _called(counts)).sum(axis=-1) / positive.sum(axis=-1))


def specificity(counts: Histogram) -> Values:
    """Share of label 0 scored below .5."""
    negative = counts[..., 0, :]
    return np.asarray((negative * (1 - _called(counts))).sum(axis=-1) / negative.sum(axis=-1))


def sensitivity_at_specificity(counts: Histogram) -> Values:
    """Sensitivity where the ROC curve, straight within a bin, has specificity .9."""
    shares = counts / counts.sum(axis=-1, keepdims=True)
    false_alarms = np.cumsum(shares[..., 0, ::-1], axis=-1)
    room = (1 - _SPECIFICITY) - (false_alarms - shares[..., 0, ::-1])
    steps = shares[..., 0, ::-1]
    within = np.clip(room / np.where(steps > 0, steps, 1.0), 0, 1)
    part = np.where(steps > 0, within, room > -_ROUNDING)
    return np.asarray((shares[..., 1, ::-1] * part).sum(axis=-1))


def calibration_error(counts: Histogram) -> Values:
    """Expected calibration error over (at most) ten equal-width groups of bins."""
    groups = min(10, counts.shape[-1])
    edges = np.arange(groups) * counts.shape[-1] // groups
    weight = np.add.reduceat(counts, edges, axis=-1)
    claimed = np.add.reduceat(counts.sum(axis=-2) * _middles(counts), edges, axis=-1)
    return np.asarray(np.abs(weight[..., 1, :] - claimed).sum(axis=-1) / counts.sum(axis=(-2, -1)))


def _middles(counts: Histogram) -> Values:
    bins = counts.shape[-1]
    return np.asarray((np.arange(bins) + 0.5) / bins, dtype=np.float64)


def _called(counts: Histogram) -> Values:
    """(B,) share of each bin at or above .5."""
    bins = counts.shape[-1]
    return np.asarray(np.clip(np.arange(bins) + 1 - bins / 2, 0, 1), dtype=np.float64)


def _mean(counts: Histogram, cost: Values) -> Values:
    return np.asarray((counts * cost).sum(axis=(-2, -1)) / counts.sum(axis=(-2, -1)))


def _prevalence(counts: Histogram) -> Values:
    return np.asarray(counts[..., 1, :].sum(axis=-1) / counts.sum(axis=(-2, -1)))


METRICS: dict[str, tuple[Callable[[Histogram], Values], float, float]] = {
    "auc": (roc_auc, 0.0, 1.0),
    "average_precision": (average_precision, 0.0, 1.0),
    "brier": (brier, 0.0, 1.0),
    "log_loss": (log_loss, 0.0, np.inf),
    "accuracy": (accuracy, 0.0, 1.0),
    "sensitivity": (sensitivity, 0.0, 1.0),
    "specificity": (specificity, 0.0, 1.0),
    "sensitivity_at_specificity_90": (sensitivity_at_specificity, 0.0, 1.0),
    "calibration_error": (calibration_error, 0.0, 1.0),
    "prevalence": (_prevalence, 0.0, 1.0),
}
"""Each metric with the bounds of its values."""
