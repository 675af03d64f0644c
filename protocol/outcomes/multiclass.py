"""Which of several classes a patient belongs to: the label is 0, 1 ... classes - 1, a score the
probability of each.

A site counts its evaluation patients in a histogram for each class, by whether they are of it and
by the bin of its probability p, and in a confusion matrix. Bins are equal in p^(log 2 / log K),
for K classes, so that the probability of a guess, 1 / K, is in their middle. A patient adds 1 to
one cell of each histogram, and w to one of the matrix, so the squared L2 sensitivity is K + w^2.
w is the whole number nearest to the root of K, so that both parts bear about as much of it: the
matrix has far fewer cells, and its counts bear w times less noise.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from protocol.outcomes import binary
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

MOST_CLASSES = 64
_FINE = 4096
_BY_CLASS = {name: binary.METRICS[name] for name in ("auc", "average_precision")}


class Multiclass(BaseKind):
    """`classes`: how many; what each is, the task's label says."""

    kind: Literal["multiclass"] = "multiclass"
    classes: int = Field(ge=3, le=MOST_CLASSES)

    def bad(self, columns: Columns) -> tuple[npt.NDArray[np.bool_], str]:
        known = np.isin(columns, np.arange(self.classes)) | np.isnan(columns)
        return ~known, f"none of 0 to {self.classes - 1}"

    def doubts(self, columns: Columns) -> list[str]:
        seen = np.isin(np.arange(self.classes), columns)
        if seen.all():
            return []
        absent = ", ".join(map(str, np.flatnonzero(~seen)))
        return [f"No row has the label {absent}: is the view right?"]

    @property
    def extremes(self) -> tuple[float, float]:
        return 0.0, float(self.classes - 1)

    @property
    def scores_of_one(self) -> tuple[int, ...]:
        return (self.classes,)

    @property
    def adds_up(self) -> bool:
        return True

    @property
    def score_columns(self) -> tuple[str, ...]:
        return tuple(f"score_{k}" for k in range(self.classes))

    @property
    def score_meaning(self) -> str:
        return "the probability of each label of {label}"

    @property
    def weight(self) -> int:
        """w, what a patient adds to the confusion matrix."""
        return round(math.sqrt(self.classes))

    def cells(self, bins: int) -> int:
        return self.classes * (2 * bins + self.classes)

    @property
    def squared_sensitivity(self) -> int:
        return self.classes + self.weight**2

    @property
    def largest(self) -> int:
        return self.weight

    @property
    def added(self) -> int:
        return self.classes + self.weight

    def counts(self, scores: Scores, labels: Labels, bins: int) -> npt.NDArray[np.int64]:
        own, finite = labels.astype(np.int64), np.where(np.isfinite(scores), scores, 0.5)
        by_class = [
            binary.histogram(finite[:, k] ** self._power, own == k, bins).ravel()
            for k in range(self.classes)
        ]
        likeliest = finite.argmax(axis=1)
        matrix = np.bincount(own * self.classes + likeliest, minlength=self.classes**2)
        return np.concatenate([*by_class, self.weight * matrix]).astype(np.int64)

    def bins_for(self, patients: int, noise: float) -> int:
        """As for a binary outcome, but that a class has its share of the patients alone, and that
        average precision of a rare class needs twice the bins."""
        if noise <= 0:
            return MAX_BINS // 4
        return even_bins(3 * (patients / self.classes / noise) ** 0.4, 8, MAX_BINS // 4)

    @cached_property
    def metrics(self) -> dict[str, Metric]:
        return _SUMMARIES | {
            f"{name}_{k}": replace(metric, label=f"{metric.label}, label {k}", short="")
            for name, metric in _BY_CLASS.items()
            for k in range(self.classes)
        }

    @property
    def compared(self) -> tuple[str, str]:
        return "macro_auc", "accuracy"

    def pooled(
        self, opened: Counts, bins: int, noise_variance: float = 0.0, seed: int = 0
    ) -> dict[str, Estimate]:
        by_class, matrix = self._parts(opened, bins)
        of_class = [
            estimates(part, _BY_CLASS, noise_variance, seed + k) for k, part in enumerate(by_class)
        ]
        # What chance of patients alone does, without the noise.
        of_patients = [
            estimates(project(part), _BY_CLASS, 0.0, seed + k) for k, part in enumerate(by_class)
        ]
        found: dict[str, Estimate] = {}
        for name in _BY_CLASS:
            parts = [
                (both[name], bare[name])
                for both, bare in zip(of_class, of_patients, strict=True)
                if name in both and name in bare
            ]
            if len(parts) == self.classes:
                found[f"macro_{name}"] = _mean(parts)
        summed, of_sum = by_class.sum(axis=0), noise_variance * self.classes
        micro = estimates(summed, _BY_CLASS, of_sum, seed, together=2)
        found |= {f"micro_{name}": of for name, of in micro.items()}
        found |= estimates(matrix, _OF_MATRIX, noise_variance / self.weight**2, seed)
        for k, of_one in enumerate(of_class):
            found |= {f"{name}_{k}": of for name, of in of_one.items()}
        return {name: found[name] for name in self.metrics if name in found}

    def figures_of(self, scores: Scores, labels: Labels) -> dict[str, float]:
        areas = [
            float(binary.roc_auc(binary.histogram(scores[:, k], labels == k, _FINE).astype(float)))
            for k in range(self.classes)
        ]
        right = float(np.mean(scores.argmax(axis=1) == labels))
        return {"macro_auc": float(np.mean(areas)), "accuracy": right}

    def calibration(self, opened: Counts, bins: int) -> list[tuple[float, float]]:
        """Of each class against the others, all together."""
        by_class, _ = self._parts(opened, bins)
        return binary.calibration_points(by_class.sum(axis=0), middles(bins) ** (1 / self._power))

    def confusion(self, opened: Counts, bins: int) -> list[list[float]]:
        return [[float(count) for count in row] for row in self._parts(opened, bins)[1]]

    @property
    def _power(self) -> float:
        return math.log(2) / math.log(self.classes)

    def _parts(self, opened: Counts, bins: int) -> tuple[Counts, Counts]:
        """(classes, 2, bins) histograms, and the (classes, classes) matrix in patients."""
        cut = self.classes * 2 * bins
        return (
            opened[:cut].reshape(self.classes, 2, bins),
            opened[cut:].reshape(self.classes, self.classes) / self.weight,
        )


def _mean(parts: list[tuple[Estimate, Estimate]]) -> Estimate:
    """The mean of one figure over the classes, each with and without noise in its interval. The
    same patients are in every class, so chance moves all of them together, at worst; the noise of
    each is its own."""
    value = float(np.mean([all_.value for all_, _ in parts]))

    def reach(ends: list[tuple[float, float]]) -> float:
        patients = np.array([bare for _, bare in ends])
        noise = np.sqrt(np.maximum(np.array([all_ for all_, _ in ends]) ** 2 - patients**2, 0.0))
        return float(np.hypot(patients.mean(), np.sqrt((noise**2).sum()) / len(ends)))

    below = reach([(a.value - a.low, b.value - b.low) for a, b in parts])
    above = reach([(a.high - a.value, b.high - b.value) for a, b in parts])
    return Estimate(value, max(0.0, value - below), min(1.0, value + above))


def accuracy(matrix: Counts) -> Values:
    """Share of patients whose likeliest class is their own."""
    diagonal = np.trace(matrix, axis1=-2, axis2=-1)
    return np.asarray(diagonal / matrix.sum(axis=(-2, -1)))


_OF_MATRIX = {"accuracy": Metric(accuracy, "accuracy", "accuracy", from_sums=True)}
_SUMMARIES = {
    f"{over}_{name}": replace(metric, label=f"{metric.label}, {said}", short=short)
    for over, said in (("macro", "mean over labels"), ("micro", "labels together"))
    for name, metric in _BY_CLASS.items()
    for short in [metric.short if over == "macro" else ""]
} | _OF_MATRIX
