"""A regression as tables: coefficients with intervals, numbers of patients, diagnoses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import assert_never

import numpy as np

from protocol.statistics.coefficients import (
    REMEDY,
    WHOSE,
    bin_values,
    coefficient_table,
    design_matrix,
    level_notes,
    number_row,
    too_wide,
)
from protocol.statistics.estimation import Fit, Floats, NoFitError
from protocol.statistics.noised_table import NoisedTable
from protocol.statistics.regression import fit
from protocol.statistics.results import AnalysisResult, ResultTable
from protocol.study.analysis import Family, Regression
from protocol.study.query import Axis, Bins, Categories, ConditionAxis

EVENTS_PER_COEFFICIENT = 10
"""Peduzzi et al. 1996: with fewer, estimates of a logistic regression are biased."""
_STEEPEST = 0.75
"""Of the linear predictor over one bin: a logistic slope is then too small by less than 1%."""
_EFFECT: dict[Family, str] = {
    "binomial": "odds ratio",
    "gaussian": "difference",
    "poisson": "rate ratio",
}


def regression_tables(analysis: Regression, table: NoisedTable) -> AnalysisResult:
    """Of patients whose factors, offset, weights and outcome are all known."""
    family, factors = analysis.family, len(analysis.references)
    counts = table.counts[tuple(slice(0, -1) for _ in table.axes)]
    beside = range(factors, factors + int(analysis.offset) + int(analysis.weighted))
    values = {at: _values(table, counts, at) for at in (*analysis.numbers, *beside)}
    names, columns = design_matrix(
        table,
        (*analysis.references, *("" for _ in beside)),
        analysis.interactions,
        values,
    )
    offset = columns[:, names.index(table.axes[factors].column)] if analysis.offset else None
    weights = None
    if analysis.weighted:
        weights = np.maximum(columns[:, names.index(table.axes[beside[-1]].column)], 0.0)
    apart = {table.axes[at].column for at in beside}
    kept = [at for at, name in enumerate(names) if name not in apart]
    terms = ("(intercept)", *(names[at] for at in kept))
    design = np.concatenate([np.ones((len(columns), 1)), columns[:, kept]], axis=1)
    flat = counts.reshape(len(design), -1)
    rows = [number_row("patients without missing values", flat, table)]
    notes = [WHOSE, *_of_numbers(analysis, table, counts)]
    if family == "binomial":
        rows.append(number_row("of them with the outcome", flat[:, 0], table))
        notes += _too_many(flat, len(terms))
        by_factor = counts.sum(axis=tuple(beside))
        notes += level_notes(table, by_factor, factors, (0, 1), analysis.numbers)
    numbers = ResultTable("Patients", ("number",), tuple(rows))
    outcomes = outcome_values(family, table.axes[-1])
    try:
        found = fit(family, design, outcomes, flat, table.variance, offset, weights)
    except NoFitError as error:
        return AnalysisResult((numbers,), (f"No estimates: {error}. {REMEDY}", *notes))
    if analysis.weighted:
        found = _robust_alone(found)
        notes.append(
            "With weights, all errors, intervals and p-values are the robust ones: they hold "
            "whether weights are of precision or of a sample."
        )
    notes += _too_steep(analysis, table, dict(zip(terms, found.coefficients.tolist(), strict=True)))
    coefficients = coefficient_table(_EFFECT[family], family != "gaussian", terms, found)
    return AnalysisResult((coefficients, numbers), tuple(notes))


def _values(table: NoisedTable, counts: Floats, at: int) -> Floats:
    """What the bins of an axis count as."""
    edges, along = _column(table, counts, at)
    return bin_values(edges, along, table.variance * counts.size / len(along))


def _column(table: NoisedTable, counts: Floats, at: int) -> tuple[Floats, Floats]:
    """(B + 1,) edges and (B,) noised counts of an axis of bins."""
    axis = table.axes[at]
    others = tuple(other for other in range(counts.ndim) if other != at)
    return np.array(axis.edges if isinstance(axis, Bins) else ()), counts.sum(axis=others)


def _robust_alone(found: Fit) -> Fit:
    noise = found.errors**2 - found.sampling**2
    alone = np.sqrt(np.maximum(found.robust**2 - noise, 0.0))
    return replace(found, errors=found.robust, sampling=alone)


def _of_numbers(analysis: Regression, table: NoisedTable, counts: Floats) -> Iterator[str]:
    if analysis.numbers:
        yield (
            "A number counts as the mean of its bin, by the noised counts: values outside of the "
            "public range count as in the last bin."
        )
    for at in analysis.numbers:
        if too_wide(*_column(table, counts, at)):
            yield (
                f"{table.axes[at].column}: a bin is wider than its standard deviation, and its "
                "coefficient says little. Give more bins, or edges where the patients are."
            )


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


def _too_steep(
    analysis: Regression, table: NoisedTable, coefficients: Mapping[str, float]
) -> Iterator[str]:
    """Within a bin a curved link draws the slope of a number to 0 (a linear one does not)."""
    for at in analysis.numbers:
        axis = table.axes[at]
        if analysis.family == "gaussian" or not isinstance(axis, Bins):
            continue
        widest = float(np.diff(axis.edges).max())
        if abs(coefficients[axis.column]) * widest > _STEEPEST:
            yield (
                f"{axis.column}: its effect over one bin is so large that the coefficient is drawn "
                "to 0 and its interval may miss the truth. Do not report it: give more bins."
            )


def _too_many(flat: Floats, coefficients: int) -> Iterator[str]:
    events = min(float(flat[:, 0].sum()), float(flat[:, 1].sum()))
    if events < EVENTS_PER_COEFFICIENT * coefficients:
        yield (
            f"About {max(events, 0):.0f} patients have the rarer outcome, for {coefficients} "
            "coefficients: more parameters than events allow. Leave out factors or join levels."
        )
