"""The answers of a query, from its opened sum: noised counts with intervals, quantiles, means.

All of it is post-processing and costs no privacy. Intervals (95%) are of the noise and, for what is
read off bins, of the bins: they say where the true figure of these patients lies, not that of a
population.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, assert_never

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter

from protocol.outcomes.estimates import Estimate, project
from protocol.privacy.query_noise import half_width, pooled_noise, query_and_event
from protocol.study.query import SITES_THAT, Bins, Cells, Differing, Mean, Statistic
from protocol.study.study import Study
from protocol.study.vector_layout import Integers

REPLICATES = 1000
Counts = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Answer:
    """One statistic over all sites together.

    counts: (cells,) noised; None where below the query's least count. half_width: of each cell's
    interval. derived: quantiles as "q50", a mean as "mean" and its number of patients as
    "patients"; left out unless the whole interval of that number reaches the least count, so that
    noise over many empty bins has no median.
    """

    name: str
    counts: tuple[float | None, ...]
    half_width: float
    derived: dict[str, Estimate]

    @staticmethod
    def read(plain: Mapping[str, Any]) -> Answer:
        """Reads what `dataclasses.asdict` made. Raises ValueError."""
        return TypeAdapter(Answer).validate_python(plain)


def answers(study: Study, total: Integers, participants: int) -> tuple[Answer, ...]:
    """(cells,) opened integers of |U| = `participants` -> one answer for each statistic."""
    query, event = query_and_event(study)
    counts = total.astype(np.float64) / event.scale
    width = half_width(study, participants)
    values, chances = pooled_noise(study, participants)
    generator = np.random.default_rng(0)

    def noise(cells: int) -> Counts:
        return generator.choice(values, size=(REPLICATES, cells), p=chances / chances.sum())

    results = []
    for statistic, where in zip(query.statistics, query.slices, strict=True):
        part = counts[where]
        least = query.least_count or -np.inf
        shown = [None if count < least else float(count) for count in part]
        spread = noise(statistic.cells)
        match statistic:
            case Mean():
                shown, derived = [], _mean(statistic, part, spread, query.least_count)
            case Cells():
                derived = _quantiles(statistic, part, spread, query.least_count)
            case Differing():  # numbers of sites, not of patients
                shown, derived = part[: len(SITES_THAT)].tolist(), {}
            case never:
                assert_never(never)
        results.append(Answer(statistic.name, tuple(shown), width, derived))
    return tuple(results)


def labels(statistic: Statistic) -> tuple[tuple[str, ...], ...]:
    """What each count of an answer is of, one label for each axis; none of a mean."""
    match statistic:
        case Mean():
            return ()
        case Cells():
            return tuple(product(*(axis.labels for axis in statistic.axes)))
        case Differing():
            return tuple((f"sites that {said}",) for said in SITES_THAT)
    assert_never(statistic)


def derived_names(statistic: Statistic) -> tuple[str, ...]:
    """What an answer derives from its counts instead of showing them, patients permitting."""
    match statistic:
        case Mean():
            return "mean", "patients"
        case Cells():
            return tuple(_quantile_name(quantile) for quantile in statistic.quantiles)
        case Differing():
            return ()
    assert_never(statistic)


def _quantile_name(quantile: float) -> str:
    return f"q{100 * quantile:g}"


def _mean(statistic: Mean, part: Counts, noise: Counts, least: int) -> dict[str, Estimate]:
    patients = _interval(float(part.sum()), (part - noise).sum(axis=1))
    if patients.low < max(1, least):
        return {}

    def at(cells: Counts) -> Counts:
        whole = np.maximum(cells.sum(axis=-1), 1.0)
        place = np.clip(cells[..., 0] / whole, 0.0, 1.0)
        return np.asarray(statistic.low + place * (statistic.high - statistic.low))

    return {"mean": _interval(float(at(part)), at(part - noise)), "patients": patients}


def _quantiles(statistic: Cells, part: Counts, noise: Counts, least: int) -> dict[str, Estimate]:
    axis = statistic.axes[0] if statistic.axes else None
    if not statistic.quantiles or not isinstance(axis, Bins):
        return {}
    if _interval(float(part[:-1].sum()), (part - noise)[:, :-1].sum(axis=1)).low < max(1, least):
        return {}
    return {
        _quantile_name(quantile): binned_quantile(axis, part[:-1], noise[:, :-1], quantile)
        for quantile in statistic.quantiles
    }


def binned_quantile(axis: Bins, counts: Counts, noise: Counts, quantile: float) -> Estimate:
    """(bins,) noised counts without the missing, (R, bins) draws of their noise -> a quantile.

    The value is interpolated within a bin. Its interval is of whole bins, since nothing says where
    in a bin the patients are: from the lower edge of the lowest bin that noise explains to the
    upper edge of the highest. A quantile outside the edges counts as the edge.
    """
    edges, outside = np.array(axis.edges), int(axis.outside)
    low = np.concatenate([edges[:outside], edges[:-1], edges[len(edges) - outside :]])
    high = np.concatenate([edges[:outside], edges[1:], edges[len(edges) - outside :]])

    def bin_of(cells: Counts) -> tuple[npt.NDArray[np.int64], Counts]:
        """(..., bins) -> (...,) the bin that the quantile is in, and how far up it, 0 to 1."""
        whole = project(cells)
        risen = np.cumsum(whole, axis=-1)
        target = quantile * risen[..., -1:]
        found = np.minimum((risen < target).sum(axis=-1), whole.shape[-1] - 1)
        within = np.take_along_axis(whole, found[..., None], -1)[..., 0]
        before = np.take_along_axis(risen, found[..., None], -1)[..., 0] - within
        place = np.clip((target[..., 0] - before) / np.where(within > 0, within, 1.0), 0.0, 1.0)
        return found, place

    found, place = bin_of(counts)
    spread, _ = bin_of(counts - noise)
    first = min(int(np.quantile(spread, 0.025, method="lower")), int(found))
    last = max(int(np.quantile(spread, 0.975, method="higher")), int(found))
    value = low[found] + place * (high[found] - low[found])
    return Estimate(float(value), float(low[first]), float(high[last]))


def _interval(value: float, spread: Counts) -> Estimate:
    low, high = np.quantile(spread, (0.025, 0.975))
    return Estimate(value, float(min(low, value)), float(max(high, value)))
