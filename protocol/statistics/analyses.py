"""From an opened sum to what its analysis came to."""

from __future__ import annotations

from typing import assert_never

import numpy as np

from protocol.privacy.query_noise import own_noise, pooled_noise, query_and_event
from protocol.statistics.drift_tables import drift_tables
from protocol.statistics.harmonisation.between_sites import opened
from protocol.statistics.harmonisation.tables import Seen, harmonisation_tables
from protocol.statistics.hazard_tables import hazard_tables
from protocol.statistics.noised_table import NoisedTable
from protocol.statistics.regression_tables import regression_tables
from protocol.statistics.results import AnalysisResult
from protocol.statistics.survival_tables import survival_tables
from protocol.statistics.table_one import table_one
from protocol.study.analysis import Drift, Harmonisation, Hazards, Regression, Survival, TableOne
from protocol.study.query import Cells, Differing
from protocol.study.study import Study
from protocol.study.vector_layout import Integers


def analyse(study: Study, total: Integers, participants: int) -> AnalysisResult | None:
    """(cells,) opened integers of |U| = `participants` -> the study's analysis; None without one.
    Post-processing: it costs no privacy."""
    analysis = study.analysis
    if analysis is None:
        return None
    query, _ = query_and_event(study)
    tables = _tables(study, total, participants)
    match analysis:
        case TableOne():
            return table_one(analysis, tables)
        case Survival():
            return survival_tables(analysis, tables[0])
        case Regression():
            return regression_tables(analysis, tables[0])
        case Hazards():
            return hazard_tables(analysis, tables[0])
        case Drift():
            return drift_tables(analysis, [one.name for one in query.statistics], tables)
        case Harmonisation():
            declared = [member.patients for member in study.roster]
            return harmonisation_tables(_seen(study, total), declared)
    assert_never(analysis)


def _seen(study: Study, total: Integers) -> tuple[Seen, ...]:
    query, event = query_and_event(study)
    values, chances = own_noise(study)
    return tuple(
        Seen(
            one,
            *opened(total[where], event.scale),
            NoisedTable((one.axis,), np.zeros(0), values, chances, query.least_count),
        )
        for one, where in zip(query.statistics, query.slices, strict=True)
        if isinstance(one, Differing)
    )


def _tables(study: Study, total: Integers, participants: int) -> tuple[NoisedTable, ...]:
    query, event = query_and_event(study)
    values, chances = pooled_noise(study, participants)
    counts = total.astype(np.float64) / event.scale
    return tuple(
        NoisedTable(one.axes, counts[where].reshape(one.shape), values, chances, query.least_count)
        for one, where in zip(query.statistics, query.slices, strict=True)
        if isinstance(one, Cells)
    )
