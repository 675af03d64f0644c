"""Proportional hazards on public intervals of time, from a table of factors by event and time.

The model for grouped times of Prentice and Gloeckler 1978 (complementary log-log): its coefficients
are the log hazard ratios of Cox's model, whatever the width of intervals. Its score is a sum over
cells, see `protocol.statistics.estimation`; a cell's g is its patients' martingale residual.
"""

from __future__ import annotations

import numpy as np

from protocol.statistics.estimation import Fit, Floats, NoFitError, solve, with_errors
from protocol.statistics.survival import EVENT, at_risk_and_events

LEAST_EVENTS = 10
"""Of an interval, beyond what noise explains; the next ones are joined to it until it has them."""


def fit_hazards(design: Floats, cells: Floats, noise: float) -> Fit:
    """design: (C, F) without an intercept; cells: (C, 2, J + 1) noised events and departures by
    interval, the last one beyond all edges; noise: the variance of a cell's noise. The first F of
    the parameters are log hazard ratios, the others are of the intervals, joined.

    Raises NoFitError as `estimation.solve`, and where there are too few events.
    """
    cells, joined = join_intervals(cells, noise)
    combinations, factors = design.shape
    intervals = cells.shape[-1] - 1
    at_risk, events = at_risk_and_events(cells)
    share = np.clip(events.sum(axis=0) / np.maximum(at_risk.sum(axis=0), 1.0), 1e-3, 0.999)
    start = np.concatenate([np.zeros(factors), np.log(-np.log1p(-share))])
    terms = np.concatenate(
        [
            np.broadcast_to(design[:, None, :], (combinations, intervals, factors)),
            np.broadcast_to(np.eye(intervals), (combinations, intervals, intervals)),
        ],
        axis=-1,
    )

    def model(parameters: Floats) -> tuple[Floats, Floats]:
        hazard = np.exp(np.clip(terms @ parameters, -30, 5))
        happens = hazard / -np.expm1(-hazard)
        survived = np.cumsum(terms * hazard[..., None], axis=1)
        each = -np.stack([survived, survived], axis=1)
        each[:, EVENT] += terms * happens[..., None]
        each = np.concatenate([each, np.stack([-survived[:, -1:]] * 2, axis=1)], axis=2)
        weights = at_risk * hazard * happens * np.exp(-hazard)
        information = np.einsum("cj,cjp,cjq->pq", weights, terms, terms)
        return each.reshape(-1, terms.shape[-1]), information

    flat = cells.ravel()
    variances = np.broadcast_to(noise * np.array([*joined, 1.0]), cells.shape).ravel()
    return with_errors(solve(model, flat, start), flat, variances)


def join_intervals(cells: Floats, noise: float) -> tuple[Floats, tuple[int, ...]]:
    """(C, 2, J + 1) -> (C, 2, K + 1), neighbouring intervals joined until each has events beyond
    what noise explains, by the noised counts alone; and of how many each of the K is made."""
    events, combinations = cells[:, EVENT].sum(axis=0), len(cells)
    ends, begun = [], 0
    for at in range(len(events) - 1):
        within = 1.96 * np.sqrt(noise * combinations * (at + 1 - begun))
        if events[begun : at + 1].sum() >= within + LEAST_EVENTS:
            ends.append(at + 1)
            begun = at + 1
    if not ends:
        raise NoFitError("no events beyond what noise explains")
    ends[-1] = len(events) - 1
    starts = [0, *ends[:-1], ends[-1]]
    joined = np.add.reduceat(cells, starts, axis=-1)
    return joined, tuple(int(width) for width in np.diff([0, *ends]))
