"""What outcomes of several classes share: the label is 0, 1 ... K - 1, a score the probability of
each.

A site counts its evaluation patients in a histogram for each class, by whether they are of it and
by the bin of its probability p, and in a confusion matrix. Bins are equal in p^(log 2 / log K),
for K classes, so that the probability of a guess, 1 / K, is in their middle. A patient adds 1 to
one cell of each histogram, and w to one of the matrix, so the squared L2 sensitivity is K + w^2.
w is the whole number nearest to the root of K, so that both parts bear about as much of it: the
matrix has far fewer cells, and its counts bear w times less noise.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from protocol.outcomes import binary, by_label
from protocol.outcomes.base import MAX_BINS, BaseKind, Columns, Labels, Scores
from protocol.outcomes.estimates import Counts, Estimate, Metric, estimates, even_bins, middles

MOST_CLASSES = 64


class ClassesKind(BaseKind):
    """`number` of classes; what each is, the task's label says."""

    @property
    @abstractmethod
    def number(self) -> int:
        """K."""

    @property
    @abstractmethod
    def of_matrix(self) -> Mapping[str, Metric]:
        """The figures of the confusion matrix, (..., K, K)."""

    @abstractmethod
    def said(self, scores: Scores) -> npt.NDArray[np.int64]:
        """(N, K) probabilities -> (N,) the class that the matrix counts as what the model says."""

    def bad(self, columns: Columns) -> tuple[npt.NDArray[np.bool_], str]:
        known = np.isin(columns, np.arange(self.number)) | np.isnan(columns)
        return ~known, f"none of 0 to {self.number - 1}"

    def doubts(self, columns: Columns) -> list[str]:
        seen = np.isin(np.arange(self.number), columns)
        if seen.all():
            return []
        absent = ", ".join(map(str, np.flatnonzero(~seen)))
        return [f"No row has the label {absent}: is the view right?"]

    @property
    def extremes(self) -> tuple[float, float]:
        return 0.0, float(self.number - 1)

    @property
    def scores_of_one(self) -> tuple[int, ...]:
        return (self.number,)

    @property
    def adds_up(self) -> bool:
        return True

    @property
    def score_columns(self) -> tuple[str, ...]:
        return tuple(f"score_{k}" for k in range(self.number))

    @property
    def score_meaning(self) -> str:
        return "the probability of each label of {label}"

    @property
    def weight(self) -> int:
        """w, what a patient adds to the confusion matrix."""
        return round(math.sqrt(self.number))

    def cells(self, bins: int) -> int:
        return self.number * (2 * bins + self.number)

    @property
    def squared_sensitivity(self) -> int:
        return self.number + self.weight**2

    @property
    def largest(self) -> int:
        return self.weight

    @property
    def added(self) -> int:
        return self.number + self.weight

    def counts(self, scores: Scores, labels: Labels, bins: int) -> npt.NDArray[np.int64]:
        own, finite = labels.astype(np.int64), np.where(np.isfinite(scores), scores, 0.5)
        by_class = [
            binary.histogram(finite[:, k] ** self._power, own == k, bins).ravel()
            for k in range(self.number)
        ]
        matrix = np.bincount(own * self.number + self.said(finite), minlength=self.number**2)
        return np.concatenate([*by_class, self.weight * matrix]).astype(np.int64)

    def bins_for(self, patients: int, noise: float) -> int:
        """As for a binary outcome, but that a class has its share of the patients alone, and that
        average precision of a rare class needs twice the bins."""
        if noise <= 0:
            return MAX_BINS // 4
        return even_bins(3 * (patients / self.number / noise) ** 0.4, 8, MAX_BINS // 4)

    @property
    def metrics(self) -> dict[str, Metric]:
        return by_label.SUMMARIES | dict(self.of_matrix) | by_label.of_labels(self.number)

    def pooled(
        self, opened: Counts, bins: int, noise_variance: float = 0.0, seed: int = 0
    ) -> dict[str, Estimate]:
        by_class, matrix = self._parts(opened, bins)
        found = by_label.pooled(by_class, noise_variance, seed, together=2)
        found |= estimates(matrix, self.of_matrix, noise_variance / self.weight**2, seed)
        return by_label.by_name(self.metrics, found)

    def figures_of(self, scores: Scores, labels: Labels) -> dict[str, float]:
        every = np.arange(self.number)
        own = (labels[:, None] == every).astype(np.float64)
        areas = by_label.macro(scores, own, by_label.OF_EACH["auc"])
        matrix = np.zeros((self.number, self.number))
        np.add.at(matrix, (labels.astype(np.int64), self.said(scores)), 1.0)
        found = {name: float(metric.of(matrix)) for name, metric in self.of_matrix.items()}
        found["macro_auc"] = areas
        return {name: found[name] for name in self.compared}

    def calibration(self, opened: Counts, bins: int) -> list[tuple[float, float]]:
        """Of each class against the others, all together."""
        by_class, _ = self._parts(opened, bins)
        return binary.calibration_points(by_class.sum(axis=0), middles(bins) ** (1 / self._power))

    def confusion(self, opened: Counts, bins: int) -> list[list[float]]:
        return [[float(count) for count in row] for row in self._parts(opened, bins)[1]]

    def by_probability(self, opened: Counts, bins: int) -> tuple[Counts, npt.NDArray[np.float64]]:
        """(K, bins) patients by the probability of each class, whatever class they are of, and the
        (bins + 1,) edges of the bins."""
        by_class, _ = self._parts(opened, bins)
        edges = np.linspace(0, 1, bins + 1) ** (1 / self._power)
        return by_class.sum(axis=1), np.asarray(edges, dtype=np.float64)

    @property
    def _power(self) -> float:
        return math.log(2) / math.log(self.number)

    def _parts(self, opened: Counts, bins: int) -> tuple[Counts, Counts]:
        """(classes, 2, bins) histograms, and the (classes, classes) matrix in patients."""
        cut = self.number * 2 * bins
        return (
            opened[:cut].reshape(self.number, 2, bins),
            opened[cut:].reshape(self.number, self.number) / self.weight,
        )
