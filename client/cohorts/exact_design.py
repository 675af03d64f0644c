"""The rows of an exact analysis at one site: covariates between -1 and 1, outcome, strata.

One row for each patient: the first of his records that meets the study's condition, which leaves
out records with a missing value (`complete_cases`). All scales are public ranges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import assert_never

import numpy as np
import numpy.typing as npt

from client.cohorts.query_counts import QueryRecords, place_along
from protocol.study.condition import Condition
from protocol.study.exact_analysis import (
    ConditionOutcome,
    Covariate,
    ExactAnalysis,
    FactorCovariate,
    NumberCovariate,
    NumberOutcome,
    TimeOutcome,
)

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ExactDesign:
    """N rows. covariates (N, P); outcome (N,): a number, or 1 where it holds or the event happened;
    interval (N,): of Cox's model the public interval of the time, -1 before the first, J after the
    last of J, otherwise 0; stratum (N,) from 0 on; offset, weights (N,).
    """

    covariates: Floats
    outcome: Floats
    interval: Places
    stratum: Places
    offset: Floats
    weights: Floats

    def strata(self) -> Iterator[Places]:
        """The rows of each."""
        for stratum in np.unique(self.stratum):
            yield np.flatnonzero(self.stratum == stratum)

    @staticmethod
    def of(analysis: ExactAnalysis, where: Condition | None, records: QueryRecords) -> ExactDesign:
        """Raises WardroundError(MALFORMED_DATA) for what no column can hold."""
        rows = records.first(records.truth(where).true)
        zeros = np.zeros(len(rows))
        columns = [_columns(one, records, rows) for one in analysis.covariates]
        outcome, interval = _outcome(analysis, records, rows)
        offset, weights = analysis.offset, analysis.weights
        return ExactDesign(
            covariates=np.concatenate([_product(term, columns) for term in analysis.terms], axis=1),
            outcome=outcome,
            interval=interval,
            stratum=(
                place_along(analysis.strata, records, rows)
                if analysis.strata is not None
                else np.zeros(len(rows), np.int64)
            ),
            offset=_cut(offset, records, rows) if offset is not None else zeros,
            weights=(
                np.maximum(_cut(weights, records, rows), 0) if weights is not None else zeros + 1
            ),
        )


def _cut(of: NumberCovariate | NumberOutcome, records: QueryRecords, rows: Places) -> Floats:
    return np.clip(records.values(of.column)[rows], of.low, of.high)


def _scaled(of: NumberCovariate | NumberOutcome, records: QueryRecords, rows: Places) -> Floats:
    """Between -1 and 1."""
    return _cut(of, records, rows) / of.unit


def _columns(of: Covariate, records: QueryRecords, rows: Places) -> Floats:
    """(N, columns of the covariate)."""
    match of:
        case NumberCovariate():
            return _scaled(of, records, rows)[:, None]
        case FactorCovariate():
            places = place_along(of.axis, records, rows)
            levels = [at for at, level in enumerate(of.levels) if level != of.reference]
            return np.asarray(places[:, None] == np.array(levels), dtype=np.float64)
    assert_never(of)


def _product(term: tuple[int, ...], columns: list[Floats]) -> Floats:
    """The columns of an interaction, the last covariate's running first."""
    made = columns[term[0]]
    for place in term[1:]:
        made = (made[:, :, None] * columns[place][:, None, :]).reshape(len(made), -1)
    return made


def _outcome(analysis: ExactAnalysis, records: QueryRecords, rows: Places) -> tuple[Floats, Places]:
    nowhere = np.zeros(len(rows), np.int64)
    match analysis.outcome:
        case NumberOutcome():
            of: Callable[..., Floats] = _scaled if analysis.model == "gaussian" else _cut
            return of(analysis.outcome, records, rows), nowhere
        case ConditionOutcome():
            return records.truth(analysis.outcome.axis.condition).true[rows].astype(float), nowhere
        case TimeOutcome():
            happened = records.truth(analysis.outcome.event.condition).true[rows].astype(float)
            return happened, place_along(analysis.outcome.time, records, rows) - 1
    assert_never(analysis.outcome)
