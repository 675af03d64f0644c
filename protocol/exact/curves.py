"""Survival curves and the log-rank test of whole patients, as tables: one exact sum of counts.

The figures are those of the pooled patients with times rounded up to the ends of the joined
intervals: the estimate of Kaplan and Meier (1958) with Greenwood's variance and log-log intervals
(Kalbfleisch and Prentice 1980, 1.4), the log-rank test of Mantel (1966).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from protocol.exact.least_counts import interval_labels
from protocol.exact.transcript import Past
from protocol.statistics.results import AnalysisResult, Figure, ResultRow, ResultTable
from protocol.statistics.survival import at_risk_and_events, chi_squared, curve, log_rank
from protocol.study.exact_analysis import ExactSurvival, honest
from protocol.study.study import Study

Floats = npt.NDArray[np.float64]
_Z = 1.959963984540054


@dataclass(frozen=True)
class ExactCurve:
    """One group: at risk when each interval begins, events in it, survival at its end with a 95%
    interval (nan where the curve is at 0), (J,) each; median and restricted mean."""

    at_risk: Floats
    events: Floats
    survival: Floats
    low: Floats
    high: Floats
    median: Figure
    mean: Figure


def exact_curve(cells: Floats, edges: Floats) -> ExactCurve:
    """(2, J + 1) events and departures by interval, the last one beyond all; (J + 1,) edges."""
    at_risk, events = at_risk_and_events(cells)
    survival = curve(cells)
    with np.errstate(divide="ignore", invalid="ignore"):
        greenwood = events / (at_risk * (at_risk - events))
        reach = _Z * np.sqrt(np.cumsum(greenwood)) / -np.log(survival)
        low, high = survival ** np.exp(reach), survival ** np.exp(-reach)
    low, high = (np.where(survival == 1, 1.0, end) for end in (low, high))
    gone = survival == 0
    low, high = (np.where(gone, np.nan, end) for end in (low, high))

    def first(shares: Floats) -> float | None:
        below = np.flatnonzero(shares <= 0.5)
        return float(edges[1 + below[0]]) if len(below) else None

    widths = np.diff(edges)
    areas = np.concatenate([[1.0], survival[:-1]]) * widths
    later = areas.sum() - np.cumsum(areas)
    spread = float(np.sqrt(np.sum(later[later > 0] ** 2 * greenwood[later > 0])))
    mean = float(edges[0] + areas.sum())
    return ExactCurve(
        at_risk,
        events,
        survival,
        low,
        high,
        Figure(first(survival), first(low), first(high)),
        Figure(mean, mean - _Z * spread, mean + _Z * spread),
    )


def curve_tables(study: Study, analysis: ExactSurvival, past: Past) -> AnalysisResult:
    """Curves, patients at risk, summary and test of a past that is over."""
    joined = max(past.intervals) + 1
    counted = np.array(past.exact_counts, dtype=np.float64).reshape(analysis.shape)[..., :joined]
    cells = np.concatenate([counted, np.zeros((*counted.shape[:-1], 1))], axis=-1)
    edges = np.array(
        [analysis.outcome.time.edges[0], *interval_labels(analysis.outcome.time, past.intervals)]
    )
    names = ("all patients",) if analysis.groups is None else analysis.groups.labels[:-1]
    curves = [exact_curve(group, edges) for group in cells.sum(axis=1)]
    tables = [
        ResultTable("Share without event", names, tuple(_shares(curves, edges)), "curves"),
        ResultTable("Patients at risk", names, tuple(_at_risk(curves, edges))),
        ResultTable("Summary", names, tuple(_summary(curves, edges))),
    ]
    if analysis.groups is not None:
        test = chi_squared(*log_rank(cells))
        found = (Figure(test.statistic), Figure(float(test.freedom)), Figure(test.p))
        title = "Log-rank test" + (" within strata" if analysis.strata is not None else "")
        columns = ("chi-squared", "degrees of freedom", "p")
        tables.append(ResultTable(title, columns, (ResultRow("groups differ", found),)))
    return AnalysisResult(tuple(tables), tuple(_notes(study, analysis, past, edges)))


def _shares(curves: list[ExactCurve], edges: Floats) -> Iterator[ResultRow]:
    for j, end in enumerate(edges[1:]):
        cells = tuple(
            Figure(float(of.survival[j]), float(of.low[j]), float(of.high[j]))
            if of.survival[j] > 0
            else Figure(0.0)
            for of in curves
        )
        yield ResultRow(f"{end:g}", cells, float(end))


def _at_risk(curves: list[ExactCurve], edges: Floats) -> Iterator[ResultRow]:
    for j, start in enumerate(edges[:-1]):
        cells = tuple(Figure(float(of.at_risk[j])) for of in curves)
        yield ResultRow(f"{start:g}", cells, float(start))


def _summary(curves: list[ExactCurve], edges: Floats) -> Iterator[ResultRow]:
    yield ResultRow("patients", tuple(Figure(float(of.at_risk[0])) for of in curves))
    yield ResultRow("events", tuple(Figure(float(of.events.sum())) for of in curves))
    medians = (of.median if of.median.value is not None else "not reached" for of in curves)
    yield ResultRow("median time", tuple(medians))
    yield ResultRow(f"mean time until {edges[-1]:g}", tuple(of.mean for of in curves))


def _notes(study: Study, analysis: ExactSurvival, past: Past, edges: Floats) -> Iterator[str]:
    yield honest(analysis)
    time = analysis.outcome.time
    ends = ", ".join(f"{end:g}" for end in edges[1:])
    yield (
        f"Times of {time.column} are taken at the ends of intervals, {ends}, events "
        "before departures. Bands are pointwise (95%, log-log, Greenwood); the mean is the "
        "area under the steps."
    )
    if len(edges) < len(time.edges):
        yield (
            "Intervals in which, by the noised counts, some group had few events or departures are "
            "joined. Wider intervals, fewer groups or no strata leave more of them."
        )
    if study.query is not None:
        counted = past.counts[study.query.slices[-1]]
        early = np.array(counted).reshape(analysis.tested()[-1].shape)[..., 0].sum()
        if early > (study.query.least_count + 1) * study.evaluation.scale:
            yield (
                f"By the noised counts {early / study.evaluation.scale:.0f} patients have a time "
                f"before {edges[0]:g} and are left out. Negative times: check from which day "
                f"{time.column} counts."
            )
