"""For whom a model fails: the figures of each level of each partition, from an opened evaluation.

All of it is post-processing of what the study released, and costs no privacy. A level's figures are
those of the study's kind of outcome, with its intervals. Levels of one partition have no patient in
common and noise of their own, so that their figures are independent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter

from protocol.outcomes.estimates import Estimate, Metric
from protocol.study.study import Study
from protocol.study.vector_layout import by_level

Counts = npt.NDArray[np.float64]
_HALF = NormalDist().inv_cdf(0.975)
"""Standard errors from the middle of a 95% interval to its end."""


@dataclass(frozen=True)
class LevelFigures:
    """One level. patients: how many there are, with a 95% interval for the noise; None where they
    are fewer than the study's least count, and then no metric is there either. A metric of which
    the counts tell no spread (of thirty patients all were classified well) is left out: its
    interval would claim to know what so few cannot tell."""

    level: str
    patients: Estimate | None
    metrics: dict[str, Estimate]


@dataclass(frozen=True)
class Difference:
    """A metric of one level less that of the partition's largest level, with its 95% interval. p:
    two-sided, of no difference, made larger by Holm's method for all differences of the study."""

    metric: str
    level: str
    reference: str
    difference: Estimate
    p: float


@dataclass(frozen=True)
class SubgroupFigures:
    """One partition."""

    name: str
    levels: tuple[LevelFigures, ...]
    differences: tuple[Difference, ...]

    @staticmethod
    def read(plain: Mapping[str, Any]) -> SubgroupFigures:
        """Reads what `dataclasses.asdict` made. Raises ValueError."""
        return TypeAdapter(SubgroupFigures).validate_python(plain)


def subgroup_figures(
    study: Study, histogram: Counts, noise_variance: float
) -> tuple[SubgroupFigures, ...]:
    """(cells of the section,) opened counts, the variance of each one's noise -> one for each
    partition of the study."""
    partitions = zip(study.evaluation.subgroups, by_level(study, histogram), strict=True)
    figures = []
    for partition, rows in partitions:
        levels = _levels(study, partition.levels, rows, noise_variance)
        differences = _differences(study, levels)
        figures.append(SubgroupFigures(partition.name, levels, differences))
    return _corrected(figures)


def _levels(
    study: Study, names: Sequence[str], rows: Counts, noise_variance: float
) -> tuple[LevelFigures, ...]:
    cells, added = study.outcome.counted(study.evaluation.bins)
    half = _HALF * math.sqrt(cells * noise_variance)
    patients = rows[:, :cells].sum(axis=1) / added
    shown = _shown(patients, study.evaluation.least_count, exact=noise_variance == 0)
    levels = []
    for place, name in enumerate(names):
        if not shown[place]:
            levels.append(LevelFigures(name, None, {}))
            continue
        counted = float(patients[place])
        known = Estimate(counted, max(0.0, counted - half / added), counted + half / added)
        pooled = study.outcome.pooled(rows[place], study.evaluation.bins, noise_variance, place)
        stretch = _stretch(counted, cells * noise_variance / added**2)
        wider = {
            metric: _wider(of, stretch, study.outcome.metrics[metric])
            for metric, of in pooled.items()
            if of.low < of.high
        }
        levels.append(LevelFigures(name, known, wider))
    return tuple(levels)


def _stretch(patients: float, variance: float) -> float:
    """How much wider a small level's intervals are made: Student's quantile over the normal one
    (Abramowitz and Stegun 1964, 26.7.5, to its second term), of as many patients as would vary so
    without noise. variance: of the noise on their count."""
    freedom, z = max(1.0, patients**2 / (patients + variance) - 1), _HALF
    first, second = (z**2 + 1) / 4, (5 * z**4 + 16 * z**2 + 3) / 96
    return 1 + first / freedom + second / freedom**2


def _wider(of: Estimate, stretch: float, metric: Metric) -> Estimate:
    low, high = (of.value + stretch * (end - of.value) for end in (of.low, of.high))
    return Estimate(of.value, max(metric.low, low), min(metric.high, high))


def _shown(patients: Counts, least: int, *, exact: bool) -> npt.NDArray[np.bool_]:
    """(levels,) whether a level's figures are shown: where its counted patients are `least` or
    more. Exact counts add up, so that what is hidden alone could be told from the rest: then the
    next smallest is hidden too."""
    shown = patients >= least
    if exact:
        for place in np.argsort(patients):
            if 0 < patients[~shown].sum() < least:
                shown[place] = False
    return np.asarray(shown, dtype=np.bool_)


def _differences(study: Study, levels: Sequence[LevelFigures]) -> tuple[Difference, ...]:
    """Of the figures by which models are compared, before Holm's correction."""
    counted = [(of.patients.value, of) for of in levels if of.patients is not None]
    if len(counted) < 2:
        return ()
    _, reference = max(counted, key=lambda one: one[0])
    return tuple(
        _difference(metric, of, reference)
        for metric in study.outcome.compared
        for _, of in counted
        if of is not reference and metric in of.metrics and metric in reference.metrics
    )


def _difference(metric: str, of: LevelFigures, reference: LevelFigures) -> Difference:
    """The interval of a difference from the intervals of both (MOVER, Zou and Donner 2008, eq. 3),
    which need not be symmetric; p is of the side on which 0 lies."""
    one, other = of.metrics[metric], reference.metrics[metric]
    value = one.value - other.value
    below = math.hypot(one.value - one.low, other.high - other.value)
    above = math.hypot(one.high - one.value, other.value - other.low)
    towards = (below if value > 0 else above) / _HALF
    p = 2 * NormalDist().cdf(-abs(value) / towards) if towards > 0 else float(value == 0)
    difference = Estimate(value, value - below, value + above)
    return Difference(metric, of.level, reference.level, difference, p)


def _corrected(figures: Sequence[SubgroupFigures]) -> tuple[SubgroupFigures, ...]:
    """The same with each p as Holm's step-down method gives it (Holm 1979) for all of them."""
    corrected = iter(holm([one.p for of in figures for one in of.differences]))
    return tuple(
        replace(of, differences=tuple(replace(one, p=next(corrected)) for one in of.differences))
        for of in figures
    )


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the order given: the k-th smallest of m times m - k + 1, at most 1 and
    never below a smaller one's."""
    adjusted, largest = [0.0] * len(p), 0.0
    for rank, place in enumerate(sorted(range(len(p)), key=lambda one: p[one])):
        largest = max(largest, min(1.0, (len(p) - rank) * p[place]))
        adjusted[place] = largest
    return adjusted
