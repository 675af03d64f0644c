"""Proportional hazards as tables: hazard ratios with intervals, numbers of patients, diagnoses."""

from __future__ import annotations

from protocol.statistics.coefficients import (
    REMEDY,
    WHOSE,
    coefficient_table,
    design_matrix,
    level_notes,
    number_row,
)
from protocol.statistics.estimation import NoFitError
from protocol.statistics.hazards import fit_hazards
from protocol.statistics.noised_table import NoisedTable
from protocol.statistics.results import AnalysisResult, ResultTable
from protocol.statistics.survival import EVENT
from protocol.study.analysis import Hazards

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
    return AnalysisResult(
        (coefficient_table("hazard ratio", True, terms, found), numbers), tuple(notes)
    )
