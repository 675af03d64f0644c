"""Which class each pixel of a picture is of: 0 is the background, 1 ... K - 1 are structures.

A label is a mask, as large as the picture that a model sees; UNKNOWN marks pixels of which nobody
said anything, which count nowhere. A score is a mask as well: the likeliest class of each pixel.

A site compares both, patient by patient. For one structure, A pixels of the mask and B of the
model's have I in common: D = 2 I / (A + B) (Dice 1945) and J = I / (A + B - I) (Jaccard 1912), of
whoever has the structure in either mask; one that a model sees where there is none counts 0, and
one that neither has counts nowhere. Both are at most 1 however large the structure is, so that a
small one is heard through the noise as well as a large one. A site adds up, with Q = 256:
- Q for each patient;
- for each structure, Q for each patient who has it; Q D, Q D^2, Q J and Q J^2 of these.
All are rounded, and one patient adds Q at most to each of these 1 + 5 (K - 1) cells: the squared L2
sensitivity is Q^2 (1 + 5 (K - 1)). The sums of squares give the spread among patients, and so the
intervals of the means.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from protocol.outcomes.base import BaseKind, Columns, Labels, Scores
from protocol.outcomes.estimates import Counts, Estimate, Metric, Values

UNKNOWN = 255
"""A pixel of a mask of which nobody said anything."""
MOST_CLASSES = 16
_Q = 256
_SUMS = 5
"""Cells of one structure: who has it, and sums of D, D^2, J and J^2."""
_BINS = 2
"""There are none; a study states some."""
_REACH = 1.96
"""Standard deviations of a 95% interval."""


class Segmentation(BaseKind):
    """`classes`: how many, the background among them; `rows` and `columns` of the masks, which are
    those of the picture (`Schema.masked`)."""

    kind: Literal["segmentation"] = "segmentation"
    classes: int = Field(ge=2, le=MOST_CLASSES)
    rows: int = Field(ge=1, le=512)
    columns: int = Field(ge=1, le=512)

    @property
    def structures(self) -> int:
        """K - 1."""
        return self.classes - 1

    # --- labels ---
    @property
    def label_shape(self) -> tuple[int, ...]:
        return self.rows, self.columns

    def bad(self, columns: Columns) -> tuple[npt.NDArray[np.bool_], str]:
        known = (columns < self.classes) | (columns == UNKNOWN)
        return ~known.all(axis=(1, 2)), f"a pixel is none of 0 to {self.classes - 1}, nor unknown"

    def missing(self, labels: Labels) -> npt.NDArray[np.bool_]:
        return np.asarray((labels == UNKNOWN).all(axis=(1, 2)))

    def doubts(self, columns: Columns) -> list[str]:
        seen = np.isin(np.arange(1, self.classes), columns)
        absent = ", ".join(str(k) for k in 1 + np.flatnonzero(~seen))
        return [f"No mask has the class {absent}: are these the right masks?"] if absent else []

    @property
    def extremes(self) -> tuple[float, float]:
        return 0.0, float(self.classes - 1)

    # --- scores ---
    @property
    def scores_of_one(self) -> tuple[int, ...]:
        return self.rows, self.columns

    @property
    def score_range(self) -> tuple[float, float]:
        return 0.0, float(self.classes - 1)

    @property
    def score_columns(self) -> tuple[str, ...]:
        return tuple(f"area_{k}" for k in range(1, self.classes))

    @property
    def score_meaning(self) -> str:
        return "the share of the picture that is each class of {label}, the background left out"

    def in_columns(self, scores: Scores) -> npt.NDArray[np.float64]:
        every = np.arange(1, self.classes)[:, None, None]
        return np.asarray((np.rint(scores)[:, None] == every).mean(axis=(2, 3)), dtype=np.float64)

    # --- the released evaluation ---
    def cells(self, bins: int) -> int:
        return 1 + _SUMS * self.structures

    @property
    def squared_sensitivity(self) -> int:
        return _Q**2 * (1 + _SUMS * self.structures)

    @property
    def largest(self) -> int:
        return _Q

    @property
    def added(self) -> int:
        return _Q * (1 + _SUMS * self.structures)

    def counted(self, bins: int) -> tuple[int, int]:
        return 1, _Q

    def counts(self, scores: Scores, labels: Labels, bins: int) -> npt.NDArray[np.int64]:
        there, dice, jaccard = self.overlaps(scores, labels)
        each = np.stack([there, dice, dice**2, jaccard, jaccard**2], axis=2)
        sums = np.rint(_Q * each).sum(axis=0).ravel()
        return np.concatenate([[_Q * len(labels)], sums]).astype(np.int64)

    def overlaps(self, scores: Scores, labels: Labels) -> tuple[Values, Values, Values]:
        """Two of masks (N, rows, columns) -> (N, K - 1) each: 1 where either has the structure;
        D and J there, 0 elsewhere."""
        own = np.asarray(labels)
        said = np.rint(np.nan_to_num(scores, nan=self.extremes[1] / 2))
        said = np.where(own == UNKNOWN, UNKNOWN, said)
        found = np.zeros((3, len(own), self.structures))
        for k in range(1, self.classes):
            a, b = own == k, said == k
            common = (a & b).sum(axis=(1, 2))
            both = a.sum(axis=(1, 2)) + b.sum(axis=(1, 2))
            there, union = both > 0, np.maximum(both - common, 1)
            found[:, :, k - 1] = there, 2 * common / np.maximum(both, 1), common / union
        return found[0], found[1], found[2]

    def bins_for(self, patients: int, noise: float) -> int:
        return _BINS

    # --- figures ---
    @property
    def metrics(self) -> dict[str, Metric]:
        return _MEANS | {
            f"{name}_{k}": replace(metric, label=f"{metric.label}, class {k}", short="")
            for name, metric in _MEANS.items()
            for k in range(1, self.classes)
        }

    @property
    def compared(self) -> tuple[str, str]:
        return "dice", "jaccard"

    @property
    def chance(self) -> float:
        return 0.0

    def pooled(
        self, opened: Counts, bins: int, noise_variance: float = 0.0, seed: int = 0
    ) -> dict[str, Estimate]:
        """Means over the patients who have the structure, and the mean of all structures, whose
        interval is that of figures which chance moves together, at the widest."""
        sums = opened[1:].reshape(self.structures, _SUMS) / _Q
        found: dict[str, Estimate] = {}
        for place, name in ((1, "dice"), (3, "jaccard")):
            each = [
                _mean(one[0], one[place], one[place + 1], noise_variance / _Q**2) for one in sums
            ]
            known = [one for one in each if one is not None]
            if known and len(known) == self.structures:
                values, spreads, noises = np.array(known).T
                noise = float((noises**2).sum()) / self.structures**2
                reach = _REACH * math.sqrt(float(spreads.mean()) ** 2 + noise)
                found[name] = _estimate(float(values.mean()), reach)
            for k, one in enumerate(each, start=1):
                if one is not None:
                    value, spread, of_noise = one
                    reach = _REACH * math.hypot(spread, of_noise)
                    found[f"{name}_{k}"] = _estimate(value, reach)
        return {name: found[name] for name in self.metrics if name in found}

    def figures_of(self, scores: Scores, labels: Labels) -> dict[str, float]:
        there, dice, jaccard = self.overlaps(scores, labels)
        patients = there.sum(axis=0)
        with np.errstate(invalid="ignore"):
            found = [float((of.sum(axis=0) / patients).mean()) for of in (dice, jaccard)]
        return dict(zip(self.compared, found, strict=True))

    def calibration(self, opened: Counts, bins: int) -> list[tuple[float, float]]:
        """None: masks are compared, and no probabilities."""
        return []


def _mean(
    patients: float, total: float, squares: float, noise_variance: float
) -> tuple[float, float, float] | None:
    """Noised number of patients, sum and sum of squares of values from 0 to 1 -> their mean, and
    its standard deviation by chance of patients and by noise; None of fewer than one patient.

    A ratio of two noised sums (the delta method). The spread is that of two patients more of 0 and
    two more of 1 (after Agresti and Coull 1998), since few bad masks among many good ones may not
    be among those that were scored; it is at most that of zeros and ones of the same mean.
    """
    if patients < 1:
        return None
    mean = min(max(total / patients, 0.0), 1.0)
    wider, middle = patients + 4, min(max((total + 2) / (patients + 4), 0.0), 1.0)
    spread = min(max((squares + 2) / wider - middle**2, 0.0), middle * (1 - middle))
    by_noise = math.sqrt(noise_variance * (1 + mean**2)) / patients
    return mean, math.sqrt(spread / patients), by_noise


def _estimate(value: float, reach: float) -> Estimate:
    return Estimate(float(value), max(0.0, float(value - reach)), min(1.0, float(value + reach)))


def _of_sums(place: int) -> Metric:
    """(..., K - 1, 5) sums -> the mean over structures of one of them."""

    def mean(sums: Counts) -> Values:
        return np.asarray((sums[..., place] / sums[..., 0]).mean(axis=-1))

    return Metric(mean, ("Dice", "Jaccard")[place // 2], ("Dice", "")[place // 2], from_sums=True)


_MEANS = {"dice": _of_sums(1), "jaccard": _of_sums(3)}
