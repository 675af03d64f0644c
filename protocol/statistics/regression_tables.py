"""A regression as tables: coefficients with intervals, numbers of patients, diagnoses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

import numpy as np

from protocol.statistics.coefficients import (
    REMEDY,
    WHOSE,
    coefficient_table,
    design_matrix,
    level_notes,
    number_row,
)
from protocol.statistics.estimation import Floats, NoFitError
from protocol.statistics.noised_table import NoisedTable
from protocol.statistics.regression import fit
from protocol.statistics.results import AnalysisResult, ResultTable
from protocol.study.analysis import Family, Regression
from protocol.study.query import Axis, Bins, Categories, ConditionAxis

EVENTS_PER_COEFFICIENT = 10
"""Peduzzi et al. 1996: with fewer, estimates of a logistic regression are biased."""
_EFFECT: dict[Family, str] = {
    "binomial": "odds ratio",
    "gaussian": "difference",
    "poisson": "rate ratio",
}


def regression_tables(analysis: Regression, table: NoisedTable) -> AnalysisResult:
    """Of patients whose factors and outcome are all known."""
    family, factors = analysis.family, len(analysis.references)
    counts = table.counts[tuple(slice(0, -1) for _ in table.axes)]
    names, columns = design_matrix(table, analysis.references, analysis.interactions)
    terms = ("(intercept)", *names)
    design = np.concatenate([np.ones((len(columns), 1)), columns], axis=1)
    flat = counts.reshape(len(design), -1)
    rows = [number_row("patients without missing values", flat, table)]
    notes = [WHOSE]
    if family == "binomial":
        rows.append(number_row("of them with the outcome", flat[:, 0], table))
        notes += _too_many(flat, len(terms))
        notes += level_notes(table, counts, factors, (0, 1))
    numbers = ResultTable("Patients", ("number",), tuple(rows))
    outcomes = outcome_values(family, table.axes[-1])
    try:
        found = fit(family, design, outcomes, flat, table.variance)
    except NoFitError as error:
        return AnalysisResult((numbers,), (f"No estimates: {error}. {REMEDY}", *notes))
    coefficients = coefficient_table(_EFFECT[family], family != "gaussian", terms, found)
    return AnalysisResult((coefficients, numbers), tuple(notes))


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


def _too_many(flat: Floats, coefficients: int) -> Iterator[str]:
    events = min(float(flat[:, 0].sum()), float(flat[:, 1].sum()))
    if events < EVENTS_PER_COEFFICIENT * coefficients:
        yield (
            f"About {max(events, 0):.0f} patients have the rarer outcome, for {coefficients} "
            "coefficients: more parameters than events allow. Leave out factors or join levels."
        )
