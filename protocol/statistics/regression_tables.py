"""A regression as tables: coefficients with intervals, numbers of patients, diagnoses."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import assert_never

import numpy as np
import numpy.typing as npt

from protocol.statistics.noised_table import NoisedTable
from protocol.statistics.regression import Fit, NoFitError, fit
from protocol.statistics.results import AnalysisResult, Figure, ResultRow, ResultTable
from protocol.study.analysis import Family, Regression
from protocol.study.query import Axis, Bins, Categories, ConditionAxis

Floats = npt.NDArray[np.float64]
EVENTS_PER_COEFFICIENT = 10
"""Peduzzi et al. 1996: with fewer, estimates of a logistic regression are biased."""
_Z = 1.959964
_EFFECT: dict[Family, str] = {
    "binomial": "odds ratio",
    "gaussian": "difference",
    "poisson": "rate ratio",
}


def regression_tables(analysis: Regression, table: NoisedTable) -> AnalysisResult:
    """Of patients whose factors and outcome are all known."""
    counts = table.counts[tuple(slice(0, -1) for _ in table.axes)]
    terms, design = design_matrix(analysis, table)
    flat, outcomes = (
        counts.reshape(len(design), -1),
        outcome_values(analysis.family, table.axes[-1]),
    )
    numbers = _numbers(analysis, table, flat)
    notes = list(_notes(analysis, table, counts, len(terms)))
    try:
        found = fit(analysis.family, design, outcomes, flat, table.variance)
    except NoFitError as error:
        remedy = "Join levels, leave out a factor, or spend more epsilon."
        return AnalysisResult((numbers,), (f"No estimates: {error}. {remedy}", *notes))
    return AnalysisResult((_coefficients(analysis, terms, found), numbers), tuple(notes))


def design_matrix(analysis: Regression, table: NoisedTable) -> tuple[tuple[str, ...], Floats]:
    """Names of the P coefficients, and (C, P): ones, then for each factor a column for each level
    but the reference, one row for each combination of levels, the last factor's running first."""
    terms, columns = ["(intercept)"], []
    levels = [table.levels(at) for at in range(len(table.axes) - 1)]
    rows = list(product(*levels))
    for at, reference in enumerate(analysis.references):
        for level, name in zip(levels[at], table.names(at), strict=True):
            if level != reference:
                terms.append(name)
                columns.append([float(row[at] == level) for row in rows])
    return tuple(terms), np.array([[1.0] * len(rows), *columns]).T


def outcome_values(family: Family, axis: Axis) -> Floats:
    """(Y,) what each label of the outcome counts as: 1 and 0; a bin's middle; a whole number."""
    match axis:
        case ConditionAxis():
            return np.array([1.0, 0.0])
        case Bins():
            edges = np.array(axis.edges)
            return edges[:-1] if family == "poisson" else (edges[:-1] + edges[1:]) / 2
        case Categories():
            return np.arange(len(axis.categories), dtype=np.float64)
    assert_never(axis)


def _coefficients(analysis: Regression, terms: tuple[str, ...], found: Fit) -> ResultTable:
    from scipy.special import ndtr  # .1 s: not for whoever only trains

    exponent = analysis.family != "gaussian"
    rows = []
    for at, term in enumerate(terms):
        beta, error = float(found.coefficients[at]), float(found.errors[at])
        ends = np.array([beta, beta - _Z * error, beta + _Z * error])
        effect = Figure(*map(float, np.exp(np.clip(ends, -50, 50)) if exponent else ends))
        z = beta / max(error, 1e-300)
        cells = (
            effect,
            Figure(*map(float, ends)),
            *map(Figure, (error, float(found.robust[at]), float(found.sampling[at]))),
            *map(Figure, (z, float(2 * ndtr(-abs(z))))),
        )
        rows.append(ResultRow(term, cells))
    columns = (
        _EFFECT[analysis.family],
        *("coefficient", "standard error", "robust standard error"),
        *("standard error without noise", "z", "p"),
    )
    return ResultTable("Coefficients", columns, tuple(rows), "forest")


def _numbers(analysis: Regression, table: NoisedTable, flat: Floats) -> ResultTable:
    def row(label: str, cells: Floats) -> ResultRow:
        number, within = float(cells.sum()), table.within(cells.size)
        return ResultRow(label, (Figure(number, max(0.0, number - within), number + within),))

    rows = [row("patients without missing values", flat)]
    if analysis.family == "binomial":
        rows.append(row("of them with the outcome", flat[:, 0]))
    return ResultTable("Patients", ("number",), tuple(rows))


def _notes(
    analysis: Regression, table: NoisedTable, counts: Floats, coefficients: int
) -> Iterator[str]:
    yield (
        "Standard errors, intervals (95%) and p-values are of patients and noise together; the "
        "column without noise says what the same data would give unprotected."
    )
    binomial = analysis.family == "binomial"
    if binomial:
        events = min(float(counts[..., 0].sum()), float(counts[..., 1].sum()))
        if events < EVENTS_PER_COEFFICIENT * coefficients:
            yield (
                f"About {max(events, 0):.0f} patients have the rarer outcome, for {coefficients} "
                "coefficients: more parameters than events allow. Leave out factors or join levels."
            )
    for at in range(len(table.axes) - 1):
        for level, name in enumerate(table.names(at)):
            of = np.take(counts, level, axis=at)
            if not table.enough(float(of.sum()), of.size):
                yield (
                    f"{name}: hardly anybody has this level. Join it with another, "
                    "or leave it out by a condition."
                )
            elif binomial and min(float(of[..., y].sum()) for y in (0, 1)) <= table.within(
                of[..., 0].size
            ):
                yield (
                    f"{name}: nearly all or none of these patients have the outcome "
                    "(separation). Join the level with another."
                )
