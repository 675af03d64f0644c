"""Whether something is so of a patient: the label is 0 or 1, a score the probability of label 1.

A site counts its evaluation patients by label and score bin; the sum over sites holds nearly all
that pooled scores would (ROC area to 1e-3 with 512 bins). A patient adds 1 to one cell, so the L2
sensitivity is 1. Noise favours few bins.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from protocol.outcomes.base import MAX_BINS, BaseKind, Labels, Scores
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
_FINE = 4096
"""Bins so many that the area under the curve is that of the scores themselves."""


class Binary(BaseKind):
    """Studies of 0.1.0 predict this."""

    kind: Literal["binary"] = "binary"

    def bad(self, labels: Labels) -> tuple[npt.NDArray[np.bool_], str]:
        return ~np.isin(labels, (0.0, 1.0)) & ~np.isnan(labels), "neither 0 nor 1"

    def doubts(self, labels: Labels) -> list[str]:
        if len(set(labels)) != 1:
            return []
        return [f"Every row has the label {labels[0]:g}: is the view right?"]

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
    hits = np.cumsum(counts[..., 1, ::-1], axis=-1)
    called = np.cumsum(counts.sum(axis=-2)[..., ::-1], axis=-1)
    precision = np.where(called > 0, hits / np.where(called > 0, called, 1.0), 0.0)
    steps = counts[..., 1, ::-1]
    return np.asarray((steps * precision).sum(axis=-1) / steps.sum(axis=-1))


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


def calibration_error(counts: Counts) -> Values:
    """Expected calibration error over (at most) ten equal-width groups of bins."""
    groups = min(10, counts.shape[-1])
    edges = np.arange(groups) * counts.shape[-1] // groups
    weight = np.add.reduceat(counts, edges, axis=-1)
    claimed = np.add.reduceat(counts.sum(axis=-2) * middles(counts.shape[-1]), edges, axis=-1)
    return np.asarray(np.abs(weight[..., 1, :] - claimed).sum(axis=-1) / counts.sum(axis=(-2, -1)))


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
    "average_precision": Metric(average_precision, "average precision", "AP"),
    "accuracy": Metric(accuracy, "accuracy at 0.5"),
    "brier": Metric(brier, "Brier score", "Brier", better="less"),
    "log_loss": Metric(log_loss, "log loss", "loss", high=np.inf, better="less"),
    "sensitivity": Metric(sensitivity, ""),
    "specificity": Metric(specificity, ""),
    "sensitivity_at_specificity_90": Metric(
        sensitivity_at_specificity, "sensitivity at 90% specificity"
    ),
    "calibration_error": Metric(calibration_error, "", better="less"),
    "prevalence": Metric(_prevalence, "", better=""),
}
"""In the order of tables, those with a label."""
