"""What a site adds to exact survival curves: events and departures in joined intervals of time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from client.cohorts.exact_design import Floats, Places
from client.cohorts.query_counts import QueryRecords, place_along
from protocol.exact.transcript import Past
from protocol.study.condition import Condition
from protocol.study.exact_analysis import ExactSurvival
from protocol.study.query import Axis


@dataclass(frozen=True)
class ExactTimes:
    """N patients whose times are not before the first interval. group, stratum (N,) from 0 on;
    departed (N,): 0 where the event happened, 1 otherwise; interval (N,): J after the last of J."""

    analysis: ExactSurvival
    group: Places
    stratum: Places
    departed: Places
    interval: Places

    @staticmethod
    def of(analysis: ExactSurvival, where: Condition | None, records: QueryRecords) -> ExactTimes:
        """Of each patient the first record that meets the study's condition. Raises
        WardroundError(MALFORMED_DATA) for what no column can hold."""
        rows = records.first(records.truth(where).true)
        interval = place_along(analysis.outcome.time, records, rows) - 1
        rows, interval = rows[interval >= 0], interval[interval >= 0]
        departed = place_along(analysis.outcome.event, records, rows)

        def places(axis: Axis | None) -> Places:
            nowhere = np.zeros(len(rows), np.int64)
            return nowhere if axis is None else place_along(axis, records, rows)

        return ExactTimes(
            analysis, places(analysis.groups), places(analysis.strata), departed, interval
        )

    def counts(self, past: Past) -> tuple[Floats, float]:
        """(cells,) patients in the intervals that were joined, as floats, and how many there are.
        An event beyond the last interval is none yet."""
        joined, shape = past.intervals, self.analysis.shape
        beyond = self.interval >= len(joined)
        interval = np.array((*joined, max(joined)))[self.interval]
        departed = np.where(beyond, 1, self.departed)
        counted = np.zeros(shape)
        np.add.at(counted, (self.group, self.stratum, departed, interval), 1.0)
        return counted.ravel(), float(len(self.interval))
