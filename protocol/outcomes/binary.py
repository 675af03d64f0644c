"""Whether something is so of a patient: the label is 0 or 1, a score the probability of label 1.

A site counts its evaluation patients by label and score bin; the sum over sites holds nearly all
that pooled scores would (ROC area to 1e-3 with 512 bins). A patient adds 1 to one cell, so the L2
sensitivity is 1. Noise favours few bins.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from protocol.outcomes.base import MAX_BINS, BaseKind, Columns, Labels, Scores
from protocol.outcomes.estimates import (
    Counts,
    Estimate,
    Metric,
    Values,
    estimates,
    even_bins,
    middles,
    project,
)

_SPECIFICITY = 0.9
_ROUNDING = 1e-9
"""Of sums of shares, far below one patient's."""
_NEWTON_STEPS = 12
_FAR = 5.0
"""Of a calibration slope or intercept."""
_FINE = 4096
"""Bins so many that the area under the curve is that of the scores themselves."""


class Binary(BaseKind):
    """Studies of 0.1.0 predict this."""

    kind: Literal["binary"] = "binary"

    def bad(self, columns: Columns) -> tuple[npt.NDArray[np.bool_], str]:
        return ~np.isin(columns, (0.0, 1.0)) & ~np.isnan(columns), "neither 0 nor 1"

    def doubts(self, columns: Columns) -> list[str]:
        if len(set(columns)) != 1:
            return []
        return [f"Every row has the label {columns[0]:g}: is the view right?"]

    @property
    def score_columns(self) -> tuple[str, ...]:
        return ("score",)

    @property
    def score_meaning(self) -> str:
        return "the probability of label 1 of {label}"

    def cells(self, bins: int) -> int:
        return 2 * bins

    @property
    def squared_sensitivity(self) -> int:
        return 1

    def counts(self, scores: Scores, labels: Labels, bins: int) -> npt.NDArray[np.int64]:
        return histogram(scores, labels, bins).ravel()

    def bins_for(self, patients: int, noise: float) -> int:
        """Binning costs about 0.4/B^2 of ROC area, noise about 0.6 sqrt(B) noise/patients (measured
        on the heart disease scores); their squares' sum is least near (patients/noise)^(2/5)."""
        return MAX_BINS if noise <= 0 else even_bins(1.5 * (patients / noise) ** 0.4, 4, MAX_BINS)

    @property
    def metrics(self) -> dict[str, Metric]:
        return METRICS

    @property
    def compared(self) -> tuple[str, str]:
        return "auc", "accuracy"

    def pooled(
        self, opened: Counts, bins: int, noise_variance: float = 0.0, seed: int = 0
    ) -> dict[str, Estimate]:
        return pooled_metrics(opened.reshape(2, bins), noise_variance, seed)

    def figures_of(self, scores: Scores, labels: Labels) -> dict[str, float]:
        counts = histogram(scores, labels, _FINE).astype(np.float64)
        return {name: float(METRICS[name].of(counts)) for name in self.compared}

    def calibration(self, opened: Counts, bins: int) -> list[tuple[float, float]]:
        return calibration_points(opened.reshape(2, bins))


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
    counts: Counts, noise_variance: float = 0.0, seed: int = 0
) -> dict[str, Estimate]:
    """(2, B) summed histogram, variance of each cell's noise -> those of METRICS that it defines,
    with intervals (`estimates`)."""
    return estimates(counts, METRICS, noise_variance, seed)


def calibration_points(counts: Counts, scores: Values | None = None) -> list[tuple[float, float]]:
    """(2, B) histogram -> (mean score, observed share of label 1) of at most ten neighbouring
    groups of bins, those without patients left out. Noised counts are projected first. scores:
    (B,) what stands for a bin's scores, by default its middle."""
    middle = middles(counts.shape[-1]) if scores is None else scores
    whole = project(counts)
    points = []
    for bins in np.array_split(np.arange(counts.shape[-1]), min(10, counts.shape[-1])):
        weight = whole[:, bins].sum()
        if weight >= 1:
            score = float((whole[:, bins].sum(axis=0) * middle[bins]).sum() / weight)
            points.append((score, float(whole[1, bins].sum() / weight)))
    return points


def roc_auc(counts: Counts) -> Values:
    """P(score of a 1 > score of a 0) + half P(equal): Mann-Whitney with ties."""
    negative, positive = counts[..., 0, :], counts[..., 1, :]
    below = np.cumsum(negative, axis=-1) - negative / 2
    pairs = positive.sum(axis=-1) * negative.sum(axis=-1)
    return np.asarray((positive * below).sum(axis=-1) / pairs)


def average_precision(counts: Counts) -> Values:
    """Sum over falling thresholds of (recall step) x precision, one step for each bin."""
    own, all_ = counts[..., 1, ::-1], counts.sum(axis=-2)[..., ::-1]
    return _mean_precision(own, np.cumsum(own, axis=-1), np.cumsum(all_, axis=-1))


def best_average_precision(counts: Counts) -> Values:
    """The same where those of label 1 in a bin come before its others: the precision at the middle
    one of them."""
    own, all_ = counts[..., 1, ::-1], counts.sum(axis=-2)[..., ::-1]
    after = own - np.clip((own + 1) / 2, np.minimum(own, 1), own)
    hits, called = np.cumsum(own, axis=-1), np.cumsum(all_, axis=-1) - (all_ - own)
    return _mean_precision(own, hits - after, called - after)


def _mean_precision(own: Values, hits: Values, called: Values) -> Values:
    precision = np.where(called > 0, hits / np.where(called > 0, called, 1.0), 0.0)
    return np.asarray((own * precision).sum(axis=-1) / own.sum(axis=-1))


def brier(counts: Counts) -> Values:
    """Mean squared distance of score and label, each score taken as the middle of its bin."""
    middle = middles(counts.shape[-1])
    return _mean(counts, np.stack([middle**2, (1 - middle) ** 2]))


def log_loss(counts: Counts) -> Values:
    """Mean negative log likelihood in nats, each score taken as the middle of its bin."""
    middle = middles(counts.shape[-1])
    return _mean(counts, -np.log(np.stack([1 - middle, middle])))


def accuracy(counts: Counts) -> Values:
    """Share of patients on the right side of .5; with odd B the middle bin counts half."""
    upper = _called(counts)
    return _mean(counts, np.stack([1 - upper, upper]))


def sensitivity(counts: Counts) -> Values:
    """Share of label 1 scored .5 or more."""
    positive = counts[..., 1, :]
    return np.asarray((positive * _called(counts)).sum(axis=-1) / positive.sum(axis=-1))


def specificity(counts: Counts) -> Values:
    """Share of label 0 scored below .5."""
    negative = counts[..., 0, :]
    return np.asarray((negative * (1 - _called(counts))).sum(axis=-1) / negative.sum(axis=-1))


def sensitivity_at_specificity(counts: Counts) -> Values:
    """Sensitivity where the ROC curve, straight within a bin, has specificity .9."""
    shares = counts / counts.sum(axis=-1, keepdims=True)
    false_alarms = np.cumsum(shares[..., 0, ::-1], axis=-1)
    room = (1 - _SPECIFICITY) - (false_alarms - shares[..., 0, ::-1])
    steps = shares[..., 0, ::-1]
    within = np.clip(room / np.where(steps > 0, steps, 1.0), 0, 1)
    part = np.where(steps > 0, within, room > -_ROUNDING)
    return np.asarray((shares[..., 1, ::-1] * part).sum(axis=-1))


def calibration_slope(counts: Counts) -> Values:
    """Of the observed log odds on the log odds of the score (Cox 1958): 1 where they agree, below 1
    where scores are too extreme."""
    return _recalibrated(counts)[1]


def calibration_intercept(counts: Counts) -> Values:
    """The observed log odds where the score says one half: 0 where they agree (Cox 1958)."""
    return _recalibrated(counts)[0]


def _recalibrated(counts: Counts) -> tuple[Values, Values]:
    """(intercept, slope) of the logistic regression of the label on the log odds of each bin's
    middle, by Newton's method; within -5 and 5, since counts that noise has left may have no
    largest likelihood."""
    whole = np.maximum(counts, 0.0)
    middle = middles(counts.shape[-1])
    odds, all_, own = np.log(middle / (1 - middle)), whole.sum(axis=-2), whole[..., 1, :]
    intercept, slope = np.zeros(counts.shape[:-2]), np.zeros(counts.shape[:-2])
    for _ in range(_NEWTON_STEPS):
        said = intercept[..., None] + slope[..., None] * odds
        chance = 1 / (1 + np.exp(-np.clip(said, -30, 30)))
        weight, missing = all_ * chance * (1 - chance), own - all_ * chance
        a, b, c = weight.sum(axis=-1), (weight * odds).sum(axis=-1), (weight * odds**2).sum(axis=-1)
        first, second = missing.sum(axis=-1), (missing * odds).sum(axis=-1)
        determinant = np.where(a * c > b**2, a * c - b**2, np.nan)
        intercept = np.clip(intercept + (c * first - b * second) / determinant, -_FAR, _FAR)
        slope = np.clip(slope + (a * second - b * first) / determinant, -_FAR, _FAR)
    return intercept, slope


def _called(counts: Counts) -> Values:
    """(B,) share of each bin at or above .5."""
    bins = counts.shape[-1]
    return np.asarray(np.clip(np.arange(bins) + 1 - bins / 2, 0, 1), dtype=np.float64)


def _mean(counts: Counts, cost: Values) -> Values:
    return np.asarray((counts * cost).sum(axis=(-2, -1)) / counts.sum(axis=(-2, -1)))


def _prevalence(counts: Counts) -> Values:
    return np.asarray(counts[..., 1, :].sum(axis=-1) / counts.sum(axis=(-2, -1)))


METRICS: dict[str, Metric] = {
    "auc": Metric(roc_auc, "ROC AUC", "AUC"),
    "average_precision": Metric(
        average_precision, "average precision", "AP", at_best=best_average_precision
    ),
    "accuracy": Metric(accuracy, "accuracy at 0.5"),
    "brier": Metric(brier, "Brier score", "Brier", better="less"),
    "log_loss": Metric(log_loss, "log loss", "loss", high=np.inf, better="less"),
    "sensitivity": Metric(sensitivity, ""),
    "specificity": Metric(specificity, ""),
    "sensitivity_at_specificity_90": Metric(
        sensitivity_at_specificity, "sensitivity at 90% specificity"
    ),
    "calibration_slope": Metric(
        calibration_slope, "calibration slope", low=-_FAR, high=_FAR, better=""
    ),
    "calibration_intercept": Metric(
        calibration_intercept, "calibration intercept", low=-_FAR, high=_FAR, better=""
    ),
    "prevalence": Metric(_prevalence, "", better=""),
}
"""In the order of tables, those with a label."""
