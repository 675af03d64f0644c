"""What noised counts must say before the first exact sum. Every site decides by itself, and alike.

Cells of outcome, strata and factors hold the least count each, or the study ends. Intervals of time
in which fewer patients than that have an event, or depart, are joined to the next ones; what is
left at the end is joined to the last interval.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from protocol.errors import Code, WardroundError
from protocol.study.exact_analysis import ExactAnalysis, TimeOutcome
from protocol.study.query import Bins, Cells, Query
from protocol.study.study import Study

Counts = npt.NDArray[np.int64]


def joined_intervals(study: Study, total: Sequence[int]) -> tuple[int, ...]:
    """(cells,) opened integers of the counts -> for each public interval of time the place of the
    joined one; () where the model has no times.

    Raises WardroundError(TOO_FEW_PATIENTS) naming the cell that is below the least count.
    """
    analysis, query = study.exact, study.query
    if analysis is None or query is None:
        raise WardroundError(Code.INTERNAL, "The study has no exact analysis.")
    least = query.least_count * study.evaluation.scale
    intervals: tuple[int, ...] = ()
    for table, where in zip(query.statistics, query.slices, strict=True):
        if not isinstance(table, Cells):
            continue
        counts = np.array(total[where], dtype=np.int64).reshape(table.shape)
        known = counts[tuple(slice(0, -1) for _ in table.axes)]
        if isinstance(analysis.outcome, TimeOutcome) and table.axes[-1:] == (
            analysis.outcome.time,
        ):
            intervals = _joined(known, least, query)
        else:
            _require(table, known, least, query, analysis)
    return intervals


def _require(
    table: Cells, known: Counts, least: int, query: Query, analysis: ExactAnalysis
) -> None:
    for place in np.argwhere(known < least).tolist():
        cell = " and ".join(
            f"{axis.column}: {axis.labels[at]}" for axis, at in zip(table.axes, place, strict=True)
        )
        what = f"with {cell}" if cell else "in the study's row set"
        stratum = analysis.strata in table.axes
        raise WardroundError(
            Code.TOO_FEW_PATIENTS,
            f"By the noised counts fewer than {query.least_count} patients are {what}"
            f"{' (an empty stratum)' if stratum else ''}: no exact sum is taken.",
            remedy="Join levels or strata, leave the term out, or ask for more patients. A level "
            "that one site alone has is best left out.",
        )


def _joined(known: Counts, least: int, query: Query) -> tuple[int, ...]:
    """known: (2, J + 2) events and departures before, in and after the intervals."""
    inner, places = known[:, 1:-1], list[int]()
    joined, held = 0, np.zeros(2, dtype=np.int64)
    for at in range(inner.shape[1]):
        held = held + inner[:, at]
        places.append(joined)
        if (held >= least).all():
            joined, held = joined + 1, np.zeros(2, dtype=np.int64)
    if not joined:
        events = int(inner[0].sum())
        why = "have the event" if events < least else "depart without the event"
        raise WardroundError(
            Code.TOO_FEW_PATIENTS,
            f"By the noised counts fewer than {query.least_count} patients {why} within the "
            f"intervals{' (no events)' if events < least else ' (nobody censored)'}: no exact sum "
            "is taken.",
            remedy="Follow patients for longer, or give intervals that end before most have left.",
        )
    return tuple(min(place, joined - 1) for place in places)


def interval_labels(time: Bins, places: Sequence[int]) -> tuple[float, ...]:
    """The end of each joined interval, in the time's unit."""
    return tuple(
        max(end for end, at in zip(time.edges[1:], places, strict=True) if at == place)
        for place in range(max(places) + 1)
    )
