"""When something happens to a patient, within public intervals, as far as he was followed.

A view has two columns: how long a patient was followed, and whether that ended with the event (1)
or not (0: censored). A label is one number, 2 s + e: s intervals were survived whole, and e = 1
says that the event came in the next one. An interval whose middle was reached without the event
counts as survived (Gensheimer and Narasimhan 2019, section 2); an event after the last interval
counts as none. A score is the probability of having survived each interval.

A site counts and adds up, for K intervals of width w_k (their sum is 1), Q = 128:
- patients by label and by bin of the risk r = 1 - S_K, W = round(Q sqrt(2 K)) a patient. Bins are
  equal in the square root of r, since most risks are small;
- for each interval k, Q (1 - S_k)^2 of those who survived it;
- for each interval j, D w_j.. of those with the event in it: D times the sum over k >= j of
  w_k S_k^2, D = round(Q sqrt(K));
- D b^2, b the sum of the patient's own squared errors times w_k.
All are rounded. The first three give concordance (Harrell 1982) and the integrated Brier score with
inverse probability of censoring weights (Graf 1999): an error's weight depends on the interval of
its sum alone, and censoring is read off the first. The last gives that score's interval. A patient
who survived all adds W, K times Q and D at most; one with the event in interval j adds W, j times
Q, D times the widths from j on, and D. The squared L2 sensitivity is the largest of these.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field
from pydantic import model_validator as validator

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

MOST_INTERVALS = 32
_Q = 128
_FEWEST, _MOST, _EXACT = 6, 64, 128
_LATE = 0.2
"""A share of events after the last interval that a site should know of."""
_REACH = 1.96
"""Standard deviations of a 95% interval."""
_LEAST_FOLLOWED = 0.05
"""The least share of patients not yet censored by which an error is divided."""


class TimeToEvent(BaseKind):
    """`ends`: where the intervals end, in the unit of the column of times; the first begins at 0.
    Of the label's two columns the first is the time, the second whether the event came."""

    kind: Literal["time_to_event"] = "time_to_event"
    ends: tuple[float, ...] = Field(min_length=2, max_length=MOST_INTERVALS)

    @validator(mode="after")
    def _in_order(self) -> Self:
        edges = (0.0, *self.ends)
        if not all(a < b for a, b in zip(edges, self.ends, strict=False)) or self.ends[-1] > 1e12:
            raise ValueError("ends must be above 0 and rise")
        return self

    @property
    def intervals(self) -> int:
        """K."""
        return len(self.ends)

    @property
    def widths(self) -> Values:
        """(K,) parts of the whole time, whose sum is 1."""
        return np.diff(np.array((0.0, *self.ends))) / self.ends[-1]

    # --- labels ---
    @property
    def label_columns(self) -> int:
        return 2

    def bad(self, columns: Columns) -> tuple[npt.NDArray[np.bool_], str]:
        time, event = columns.T
        known = np.isnan(event) | np.isin(event, (0.0, 1.0))
        possible = np.isnan(time) | ((time >= 0) & np.isfinite(time))
        return ~(known & possible), "a time below 0, or an event that is neither 0 nor 1"

    def labels_of(self, columns: Columns) -> Labels:
        time, event = columns.T
        ends = np.array(self.ends)
        middle = ends - self.widths * self.ends[-1] / 2
        came = (event == 1) & (time <= ends[-1])
        survived = np.where(
            came,
            np.searchsorted(ends, time, side="left"),
            np.searchsorted(middle, time, side="right"),
        )
        missing = np.isnan(columns).any(axis=1)
        return np.where(missing, np.nan, 2.0 * survived + came)

    def doubts(self, columns: Columns) -> list[str]:
        time, event = columns.T
        if not (event == 1).any():
            return ["No row has the event: is the view right?"]
        times, said = time[event == 1], []
        late = float(np.mean(times > self.ends[-1]))
        if late > _LATE:
            said.append(
                f"{late:.1%} of the events come after {self.ends[-1]:g}, the end of the last "
                "interval, and count as none: is the unit right?"
            )
        elif len(times) > 1 and (times <= self.ends[0]).all():
            said.append("Every event is in the first interval: is the unit right?")
        return said

    @property
    def extremes(self) -> tuple[float, float]:
        """The event in the first interval, and all survived."""
        return 1.0, 2.0 * self.intervals

    # --- scores ---
    @property
    def scores_of_one(self) -> tuple[int, ...]:
        return (self.intervals,)

    @property
    def score_columns(self) -> tuple[str, ...]:
        return tuple(f"survival_{k}" for k in range(1, self.intervals + 1))

    @property
    def score_meaning(self) -> str:
        ends = ", ".join(f"{end:g}" for end in self.ends)
        return f"the probability that {{label}} has not come by {ends}"

    # --- the released evaluation ---
    @property
    def weight(self) -> int:
        """W, what a patient adds to one cell of the histogram."""
        return round(_Q * math.sqrt(2 * self.intervals))

    @property
    def _died_scale(self) -> int:
        """D."""
        return round(_Q * math.sqrt(self.intervals))

    @property
    def _codes(self) -> int:
        return 2 * self.intervals + 1

    def cells(self, bins: int) -> int:
        return self._codes * bins + 2 * self.intervals + 1

    def _most(self, power: Literal[1, 2]) -> int:
        """The sum of the powers of what one patient adds, at most."""
        tails = np.cumsum(self.widths[::-1])[::-1]
        with_event = (
            j * _Q**power + round(self._died_scale * float(tail)) ** power
            for j, tail in enumerate(tails)
        )
        without = self.intervals * _Q**power
        return int(self.weight**power + self._died_scale**power + max(without, *with_event))

    @property
    def squared_sensitivity(self) -> int:
        return self._most(2)

    @property
    def largest(self) -> int:
        return max(self.weight, self._died_scale)

    @property
    def added(self) -> int:
        return self._most(1)

    def counted(self, bins: int) -> tuple[int, int]:
        return self._codes * bins, self.weight

    def counts(self, scores: Scores, labels: Labels, bins: int) -> npt.NDArray[np.int64]:
        survival = np.clip(np.where(np.isfinite(scores), scores, 0.5), 0, 1).astype(np.float64)
        code = labels.astype(np.int64)
        survived, event = code // 2, code % 2 == 1
        place = np.arange(self.intervals)
        root = np.sqrt(1 - survival[:, -1])
        bin_ = np.clip(np.floor(root * bins), 0, bins - 1).astype(np.int64)
        table = np.bincount(code * bins + bin_, minlength=self._codes * bins)
        alive = np.where(place < survived[:, None], (1 - survival) ** 2, 0.0)
        later = np.where(event[:, None] & (place >= survived[:, None]), survival**2, 0.0)
        died = later @ self.widths
        error = alive @ self.widths + died
        with_event = np.bincount(
            survived[event],
            np.rint(self._died_scale * died[event]),
            minlength=self.intervals,
        )
        squares = np.rint(self._died_scale * np.minimum(error, 1) ** 2).sum()
        sums = [np.rint(_Q * alive).sum(axis=0), with_event[: self.intervals], [squares]]
        return np.concatenate([self.weight * table, *sums]).astype(np.int64)

    def by_survival(self, opened: Counts, bins: int) -> tuple[Values, Values, float]:
        """(bins,) patients by their probability of surviving all intervals, whatever became of
        them, the (bins + 1,) edges of its bins, and how many times the variance of one released
        cell each has."""
        table = opened[: self._codes * bins].reshape(self._codes, bins) / self.weight
        edges = 1 - np.linspace(1, 0, bins + 1) ** 2
        return table.sum(axis=0)[::-1], edges, self._codes / self.weight**2

    def bins_for(self, patients: int, noise: float) -> int:
        """As for a binary outcome; noise falls on the cells of many labels (measured on the trial
        of `trial_survival`)."""
        if noise <= 0:
            return _EXACT
        return even_bins((patients * self.weight / noise) ** 0.4, _FEWEST, _MOST)

    # --- figures ---
    @property
    def metrics(self) -> dict[str, Metric]:
        return METRICS

    @property
    def compared(self) -> tuple[str, str]:
        return "concordance", "integrated_brier"

    def pooled(
        self, opened: Counts, bins: int, noise_variance: float = 0.0, seed: int = 0
    ) -> dict[str, Estimate]:
        table, *_ = self._parts(opened, bins)
        found = estimates(table, _OF_TABLE, noise_variance / self.weight**2, seed)
        score = self._integrated_brier(opened, bins, noise_variance)
        return found if score is None else found | {"integrated_brier": score}

    def figures_of(self, scores: Scores, labels: Labels) -> dict[str, float]:
        """The concordance of the risks as they are, by ranks."""
        _, places = np.unique(-scores[:, -1], return_inverse=True)
        table = np.zeros((self._codes, int(places.max(initial=0)) + 1))
        np.add.at(table, (labels.astype(np.int64), places), 1.0)
        counts = self.counts(scores, labels, _MOST).astype(np.float64)
        score = self._integrated_brier(counts, _MOST, 0.0)
        return {
            "concordance": float(concordance(table)),
            "integrated_brier": np.nan if score is None else score.value,
        }

    def calibration(self, opened: Counts, bins: int) -> list[tuple[float, float]]:
        """Survival of the whole time: as predicted, and by Kaplan and Meier (1958), of groups of
        risk; those with less than a hundredth of the patients left out."""
        table, *_ = self._parts(opened, bins)
        survival, points = 1 - middles(bins) ** 2, []
        for group in np.array_split(np.arange(bins), min(10, bins)):
            part = table[:, group]
            if (weight := part.sum()) > max(1.0, table.sum() / 100):
                predicted = float(np.clip(part.sum(axis=0) @ survival[group] / weight, 0, 1))
                observed = float(np.prod(1 - self._hazards(part.sum(axis=1))[0]))
                points.append((predicted, observed))
        return points[::-1]

    def patients(self, opened: Counts, bins: int) -> Counts:
        """(2 K + 1, bins) patients by label and bin of the risk."""
        return self._parts(opened, bins)[0]

    def _parts(self, opened: Counts, bins: int) -> tuple[Counts, Counts, Counts, float]:
        """(2 K + 1, bins) patients by label and bin; (K,) sums of squared errors of those who
        survived each interval; (K,) of those with the event in it; the sum of squares."""
        cut, k = self._codes * bins, self.intervals
        return (
            opened[:cut].reshape(self._codes, bins) / self.weight,
            opened[cut : cut + k] / _Q,
            opened[cut + k : cut + 2 * k] / self._died_scale,
            float(opened[-1]) / self._died_scale,
        )

    def _hazards(self, by_code: Values) -> tuple[Values, Values]:
        """(2 K + 1,) patients by label -> (K,) the share that has the event in each interval, of
        those who were followed into it and through it; and the share censored before it."""
        at_risk = np.cumsum(by_code[::-1])[::-1]
        with np.errstate(divide="ignore", invalid="ignore"):
            event = by_code[1::2] / at_risk[1::2]
            censored = by_code[:-1:2] / at_risk[:-1:2]
        return tuple(np.clip(np.nan_to_num(of), 0, 1) for of in (event, censored))  # type: ignore[return-value]  # two of them

    def _integrated_brier(
        self, opened: Counts, bins: int, noise_variance: float
    ) -> Estimate | None:
        """None where the counts leave it undefined."""
        table, alive, died, squares = self._parts(opened, bins)
        patients = float(table.sum())
        if patients < 1:
            return None
        _, censored = self._hazards(table.sum(axis=1))
        followed = np.maximum(np.cumprod(1 - censored), _LEAST_FOLLOWED)
        value = float((self.widths * alive / followed).sum() + (died / followed).sum()) / patients
        plain = float((self.widths * alive).sum() + died.sum()) / patients
        # b is at most its unweighted self over the last `followed`.
        moment = value / max(plain, 1e-9) / float(followed[-1]) * max(squares, 0.0) / patients
        of_patients = max(moment - value**2, 0.0) / patients
        of_noise = noise_variance * float(
            ((self.widths / followed / _Q) ** 2).sum()
            + ((1 / followed / self._died_scale) ** 2).sum()
        )
        reach = _REACH * math.sqrt(of_patients + of_noise / patients**2)
        clipped = min(max(value, 0.0), 1.0)
        return Estimate(clipped, max(0.0, value - reach), min(1.0, max(value + reach, 0.0)))


def concordance(counts: Counts) -> Values:
    """(..., 2 K + 1, B) patients by label and risk -> of the pairs of whom one has the event while
    the other is followed beyond that interval, the share in which the first has the higher risk;
    equal risks count half (Harrell 1982). Linear in the patients of each label, so that noise adds
    no bias to what it divides."""
    later = np.cumsum(counts[..., ::-1, :], axis=-2)[..., ::-1, :]
    event, beyond = counts[..., 1::2, :], later[..., 2::2, :]
    lower = np.cumsum(beyond, axis=-1) - beyond / 2
    pairs = (event.sum(axis=-1) * beyond.sum(axis=-1)).sum(axis=-1)
    return np.asarray((event * lower).sum(axis=(-2, -1)) / np.where(pairs > 0, pairs, np.nan))


_OF_TABLE = {"concordance": Metric(concordance, "concordance", "C", from_sums=True)}
METRICS: dict[str, Metric] = _OF_TABLE | {
    "integrated_brier": replace(
        _OF_TABLE["concordance"], label="integrated Brier score", short="Brier", better="less"
    )
}
