"""A survival analysis as tables: curves, numbers at risk, summary, log-rank test, diagnoses."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from protocol.outcomes.estimates import project
from protocol.statistics.noised_table import TOO_FEW, NoisedTable
from protocol.statistics.results import AnalysisResult, Figure, ResultRow, ResultTable
from protocol.statistics.survival import (
    EVENT,
    Curve,
    at_risk_and_events,
    estimate,
    noised_log_rank,
)
from protocol.study.analysis import Survival
from protocol.study.query import Bins

Floats = npt.NDArray[np.float64]


def survival_tables(analysis: Survival, table: NoisedTable) -> AnalysisResult:
    """Raises TypeError where the table's last axis is no time (`analysis.check` sees to it)."""
    axis = table.axes[-1]
    if not isinstance(axis, Bins):
        raise TypeError("a survival table ends with bins of time")
    edges, generator = np.array(axis.edges), np.random.default_rng(0)
    raw = _known(analysis, table)
    strata, names = raw.shape[1], table.names(0) if analysis.grouped else ("all patients",)
    groups = project(raw.sum(axis=1))
    curves = [
        estimate(group, edges, table, strata, generator)
        if table.enough(float(group.sum()), strata * group.size)
        else None
        for group in groups
    ]
    tables = [
        ResultTable("Share without event", names, tuple(_shares(curves, edges)), "curves"),
        ResultTable(
            "Patients at risk", names, tuple(_at_risk(groups, curves, table, edges, strata))
        ),
        ResultTable("Summary", names, tuple(_summary(groups, curves, table, edges, strata))),
    ]
    if analysis.grouped:
        tables.append(_test(analysis, project(raw), curves, table, generator))
    return AnalysisResult(tuple(tables), tuple(_notes(table, axis, names, groups, curves)))


def _known(analysis: Survival, table: NoisedTable) -> Floats:
    """(G, S, 2, J + 1) noised: without unknown groups, strata and events, and times that are
    missing or before the first edge. The last cell counts times beyond the last edge."""
    counts = table.counts[..., :2, 1:-1]
    counts = counts[:-1] if analysis.grouped else counts[None]
    return counts[:, :-1] if analysis.stratified else counts[:, None]


def _shares(curves: list[Curve | None], edges: Floats) -> Iterator[ResultRow]:
    for j, end in enumerate(edges[1:]):
        cells = tuple(
            TOO_FEW
            if of is None
            else Figure(float(of.survival[j]), float(of.low[j]), float(of.high[j]))
            for of in curves
        )
        yield ResultRow(f"{end:g}", cells, float(end))


def _at_risk(
    groups: Floats, curves: list[Curve | None], table: NoisedTable, edges: Floats, strata: int
) -> Iterator[ResultRow]:
    at_risk, _ = at_risk_and_events(groups)
    for j, start in enumerate(edges[:-1]):
        noise = table.within(strata * 2 * (len(edges) - j))
        cells = tuple(
            TOO_FEW if of is None else _count(float(number), noise)
            for of, number in zip(curves, at_risk[:, j], strict=True)
        )
        yield ResultRow(f"{start:g}", cells, float(start))


def _summary(
    groups: Floats, curves: list[Curve | None], table: NoisedTable, edges: Floats, strata: int
) -> Iterator[ResultRow]:
    columns: list[tuple[Figure | str, ...]] = []
    for of, group in zip(curves, groups, strict=True):
        if of is None:
            columns.append((TOO_FEW,) * 4)
            continue
        known = _count(float(group.sum()), table.within(strata * group.size))
        events = _count(float(group[EVENT, :-1].sum()), table.within(strata * (group.shape[1] - 1)))
        median = of.median if of.median != Figure(None) else "not reached"
        columns.append((known, events, median, of.mean))
    names = ("patients", "events", "median time", f"mean time until {edges[-1]:g}")
    for name, cells in zip(names, zip(*columns, strict=True), strict=True):
        yield ResultRow(name, cells)


def _test(
    analysis: Survival,
    cells: Floats,
    curves: list[Curve | None],
    table: NoisedTable,
    generator: np.random.Generator,
) -> ResultTable:
    found: tuple[Figure | str, ...] = (TOO_FEW,) * 3
    if len(curves) > 1 and all(of is not None for of in curves):
        test = noised_log_rank(cells, table, generator)
        found = (Figure(test.statistic), Figure(float(test.freedom)), Figure(test.p))
    title = "Log-rank test" + (" within strata" if analysis.stratified else "")
    columns = ("chi-squared", "degrees of freedom", "p")
    return ResultTable(title, columns, (ResultRow("groups differ", found),))


def _notes(
    table: NoisedTable,
    axis: Bins,
    names: tuple[str, ...],
    groups: Floats,
    curves: list[Curve | None],
) -> Iterator[str]:
    """What hinders an analysis, in the field's words, each with a remedy."""
    yield (
        f"Times of {axis.column} are taken at the ends of intervals, events before departures. "
        "Bands (95%, pointwise, log-log) are of patients and noise together."
    )
    for name, group, of in zip(names, groups, curves, strict=True):
        if of is None:
            yield (
                f"{name}: an empty or nearly empty group. Join it with another, or spend more "
                "epsilon on fewer intervals."
            )
            continue
        events, departed = group[:, :-1].sum(axis=1)
        beyond = group[:, -1].sum()
        noise = table.within(group.shape[1])
        if events <= noise:
            yield (
                f"{name}: no events beyond what noise explains (all censored); neither median nor "
                "test says anything. Check the condition of the event, or follow up longer."
            )
        elif departed + beyond <= noise:
            yield f"{name}: nobody is censored. Check that event and time are of one record."
    early = table.counts[..., 0]
    if early.sum() > table.within(early.size) + max(1, table.least_count):
        yield (
            f"About {early.sum():.0f} patients have a time before {axis.edges[0]:g} and are left "
            f"out. Negative times: check from which day {axis.column} counts."
        )


def _count(number: float, noise: float) -> Figure:
    return Figure(number, max(0.0, number - noise), number + noise)
