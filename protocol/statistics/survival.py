"""Kaplan-Meier curves and the log-rank test from one noised table over public intervals of time.

Events and departures of an interval [a, b) are taken to happen at b, events first, as the usual
estimators take tied times: the figures are those of data whose times are rounded up to the ends of
intervals (Kaplan and Meier 1958; Mantel 1966). Intervals are of patients and noise together, by
replicates that draw both anew; noised counts are projected to the nearest that are not negative
and have the same total over time, so that each group keeps its number of events.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from protocol.outcomes.estimates import project
from protocol.statistics.noised_table import NoisedTable
from protocol.statistics.results import Figure

Floats = npt.NDArray[np.float64]
REPLICATES = 500
EVENT, DEPARTED = 0, 1
_Z = 1.959964


def curve(cells: Floats) -> Floats:
    """(..., 2, J + 1) events and departures by interval, the last one beyond all edges -> (..., J)
    the share without event by the end of each interval."""
    at_risk, events = at_risk_and_events(cells)
    hazard = np.clip(events / np.maximum(at_risk, 1e-9), 0.0, 1.0)
    return np.asarray(np.cumprod(1 - hazard, axis=-1), dtype=np.float64)


def at_risk_and_events(cells: Floats) -> tuple[Floats, Floats]:
    """(..., 2, J + 1) -> (..., J) at risk when each interval begins, and events in it."""
    both = cells.sum(axis=-2)
    at_risk = np.cumsum(both[..., ::-1], axis=-1)[..., ::-1]
    return at_risk[..., :-1], cells[..., EVENT, :-1]


def mean_time(survival: Floats, widths: Floats) -> Floats:
    """(..., J) shares, (J,) widths -> (...,) mean time without event from the first edge to the
    last, by trapezoids."""
    before = np.concatenate([np.ones((*survival.shape[:-1], 1)), survival[..., :-1]], axis=-1)
    return np.asarray(((before + survival) / 2 * widths).sum(axis=-1))


def log_rank(cells: Floats) -> tuple[Floats, Floats]:
    """(..., G, S, 2, J + 1) -> (..., G) observed minus expected events of each group, summed over
    the strata, and (..., G, G) their hypergeometric covariance (Mantel 1966)."""
    at_risk, events = at_risk_and_events(cells)
    whole = at_risk.sum(axis=-3, keepdims=True)
    happened = events.sum(axis=-3, keepdims=True)
    share = at_risk / np.maximum(whole, 1e-9)
    excess = (events - share * happened).sum(axis=(-1, -2))
    spread = happened * np.clip(whole - happened, 0, None) / np.maximum(whole - 1, 1.0)
    weighted = (share * spread).sum(axis=(-1, -2))
    alone = weighted[..., None] * np.eye(cells.shape[-4])
    return excess, alone - np.einsum("...gsj,...hsj->...gh", share * spread, share)


@dataclass(frozen=True)
class ChiSquared:
    """A statistic with its degrees of freedom and p-value."""

    statistic: float
    freedom: int
    p: float


def noised_log_rank(
    cells: Floats, table: NoisedTable, generator: np.random.Generator
) -> ChiSquared:
    """(G, S, 2, J + 1) projected counts. The noise's covariance, by replicates, is added to the
    hypergeometric one."""
    excess, covariance = log_rank(cells)
    moved, _ = log_rank(project(cells + table.noise(generator, (REPLICATES, *cells.shape))))
    return chi_squared(excess, covariance + np.cov(moved, rowvar=False))


def chi_squared(excess: Floats, covariance: Floats) -> ChiSquared:
    """(G,) observed minus expected events and (G, G) their covariance -> the test of no difference
    between the groups."""
    from scipy.special import chdtrc  # .1 s: not for whoever only trains

    freedom, part = len(excess) - 1, excess[:-1]
    chi2 = float(part @ np.linalg.pinv(covariance[:-1, :-1]) @ part)
    return ChiSquared(chi2, freedom, float(chdtrc(freedom, chi2)))


@dataclass(frozen=True)
class Curve:
    """One group's estimates: survival, low, high (J,) at the end of each interval."""

    survival: Floats
    low: Floats
    high: Floats
    median: Figure
    mean: Figure


def estimate(
    cells: Floats, edges: Floats, table: NoisedTable, added: int, generator: np.random.Generator
) -> Curve:
    """(2, J + 1) counts, projected, each the sum of `added` noised cells. Bands are log-log ones
    (Kalbfleisch and Prentice 1980, 1.4) whose deviation is that of replicates."""
    seen = curve(cells)
    drawn = generator.multinomial(round(cells.sum()), cells.ravel() / cells.sum(), size=REPLICATES)
    noise = table.noise(generator, (REPLICATES, added, *cells.shape)).sum(axis=1)
    spread = curve(project(drawn.reshape(REPLICATES, *cells.shape) + noise))
    low, high = _band(seen, spread)
    mean = float(edges[0] + mean_time(seen, np.diff(edges)))
    reach = _Z * float(mean_time(spread, np.diff(edges)).std())
    return Curve(
        seen, low, high, _median(seen, low, high, edges), Figure(mean, mean - reach, mean + reach)
    )


def _band(seen: Floats, spread: Floats) -> tuple[Floats, Floats]:
    inside = np.clip(seen, 1e-6, 1 - 1e-6)
    reach = np.exp(np.minimum(_Z * spread.std(axis=0) / (inside * -np.log(inside)), 50.0))
    low, high = inside**reach, inside ** (1 / reach)
    edge = (seen < 1e-6) | (seen > 1 - 1e-6)
    ends = np.quantile(spread, (0.025, 0.975), axis=0)
    return np.where(edge, np.minimum(ends[0], seen), low), np.where(
        edge, np.maximum(ends[1], seen), high
    )


def _median(seen: Floats, low: Floats, high: Floats, edges: Floats) -> Figure:
    """Where the curve falls to a half, interpolated; its interval is of the intervals whose bands
    hold a half (Brookmeyer and Crowley 1982)."""

    def first(shares: Floats) -> int | None:
        below = np.flatnonzero(shares <= 0.5)
        return int(below[0]) if len(below) else None

    at, earliest, latest = first(seen), first(low), first(high)
    value = None
    if at is not None:
        before = 1.0 if at == 0 else float(seen[at - 1])
        share = (before - 0.5) / max(before - float(seen[at]), 1e-12)
        value = float(edges[at] + share * (edges[at + 1] - edges[at]))
    return Figure(
        value,
        None if earliest is None else float(edges[earliest]),
        None if latest is None else float(edges[latest + 1]),
    )
