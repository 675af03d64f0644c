"""What noised counts must say before the first exact sum. Every site decides by itself, and alike.

Cells of outcome, strata and factors hold the least count each, or the study ends. Intervals of time
in which fewer patients than that have an event, or depart, are joined to the next ones; what is
left at the end is joined to the last interval. Survival curves count events and departures of each
group and stratum, so there every one of these has to hold the least count.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from protocol.errors import Code, WardroundError
from protocol.study.exact_analysis import AnyExact, ExactAnalysis, ExactSurvival, TimeOutcome
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
            intervals = _joined(table, known, least, query, analysis)
        else:
            _require(table, known, least, query, analysis)
    return intervals


def _require(table: Cells, known: Counts, least: int, query: Query, analysis: AnyExact) -> None:
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


def _joined(
    table: Cells, known: Counts, least: int, query: Query, analysis: AnyExact
) -> tuple[int, ...]:
    """known: (..., 2, J + 2) events and departures before, in and after the intervals."""
    inner, places = known[..., 1:-1].copy(), list[int]()
    if isinstance(analysis, ExactSurvival):
        inner[..., 1, -1] += known[..., -1].sum(axis=-1)
    joined, held = 0, np.zeros(inner.shape[:-1], dtype=np.int64)
    for at in range(inner.shape[-1]):
        held = held + inner[..., at]
        places.append(joined)
        if (held >= least).all():
            joined, held = joined + 1, np.zeros_like(held)
    if not joined:
        *group, event = np.argwhere(inner.sum(axis=-1) < least)[0].tolist()
        of = " and ".join(
            f"{axis.column}: {axis.labels[at]}" for axis, at in zip(table.axes, group, strict=False)
        )
        raise WardroundError(
            Code.TOO_FEW_PATIENTS,
            f"By the noised counts fewer than {query.least_count} patients "
            f"{f'with {of} ' if of else ''}"
            f"{'have the event' if event == 0 else 'depart without the event'} within the "
            f"intervals{' (no events)' if event == 0 else ' (nobody censored)'}: no exact sum "
            "is taken.",
            remedy="Follow patients for longer, give intervals that end before most have left, or "
            "join groups or strata.",
        )
    return tuple(min(place, joined - 1) for place in places)


def interval_labels(time: Bins, places: Sequence[int]) -> tuple[float, ...]:
    """The end of each joined interval, in the time's unit."""
    return tuple(
        max(end for end, at in zip(time.edges[1:], places, strict=True) if at == place)
        for place in range(max(places) + 1)
    )


def interval_widths(analysis: ExactAnalysis, places: Sequence[int]) -> npt.NDArray[np.float64]:
    """(K,) of the joined intervals of a Cox model, parts of the whole time."""
    if not isinstance(analysis.outcome, TimeOutcome):
        raise WardroundError(Code.INTERNAL, "The model has no times.")
    time = analysis.outcome.time
    ends = np.array([time.edges[0], *interval_labels(time, places)])
    return np.asarray(np.diff(ends) / (ends[-1] - ends[0]), dtype=np.float64)
