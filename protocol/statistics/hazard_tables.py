"""Proportional hazards as tables: hazard ratios with intervals, numbers of patients, diagnoses."""

from __future__ import annotations

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
from protocol.statistics.foretelling import foretold
from protocol.statistics.hazards import fit_hazards, join_intervals
from protocol.statistics.noised_table import NoisedTable
from protocol.statistics.results import AnalysisResult, ResultRow, ResultTable
from protocol.statistics.survival import EVENT
from protocol.study.analysis import Hazards
from protocol.study.query import Bins

_INTERVALS = (
    "Hazards are taken to be proportional within and over intervals; intervals with few events are "
    "joined to the next ones. Departures count at the end of their interval."
)


def hazard_tables(analysis: Hazards, table: NoisedTable) -> AnalysisResult:
    """Of patients whose factors, event and time are all known, from the first edge on."""
    factors = len(analysis.references)
    known = tuple(slice(0, -1) for _ in range(factors))
    counts = table.counts[(*known, slice(0, 2), slice(1, -1))]
    terms, design = design_matrix(table, analysis.references, analysis.interactions)
    cells = counts.reshape(len(design), 2, -1)
    numbers = ResultTable(
        "Patients",
        ("number",),
        (
            number_row("patients without missing values", cells, table),
            number_row("events until the last edge", cells[:, EVENT, :-1], table),
        ),
    )
    notes = [WHOSE, _INTERVALS, *level_notes(table, counts, factors, (EVENT,))]
    try:
        found = fit_hazards(design, cells, table.variance)
    except NoFitError as error:
        return AnalysisResult((numbers,), (f"No estimates: {error}. {REMEDY}", *notes))
    coefficients = coefficient_table("hazard ratio", True, terms, found)
    few, joined = join_intervals(cells, table.variance)
    predictor, baseline = (
        design @ found.coefficients[: len(terms)],
        found.coefficients[len(terms) :],
    )
    widths = np.add.reduceat(np.diff(_edges(table)), [0, *np.cumsum(joined)[:-1]])
    figures = foretold(predictor, baseline, few, joined, widths / widths.sum(), table)
    shown = tuple(ResultRow(label, (of,)) for label, of in figures.items())
    said = ResultTable("How well it foretells these patients", ("figure",), shown)
    return AnalysisResult((coefficients, numbers, said), tuple(notes))


def _edges(table: NoisedTable) -> Floats:
    time = table.axes[-1]
    return np.array(time.edges if isinstance(time, Bins) else ())
