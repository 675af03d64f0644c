"""How well a model of hazards orders and foretells the patients of a noised table.

Concordance (Harrell 1982): of the pairs of whom one has the event while the other is still
followed, the share in which the first has the higher hazard; whoever departs in the interval of
another's event is followed beyond it, equal hazards count half. Integrated Brier score with inverse
probability of censoring weights (Graf 1999), the mean over intervals by their width, and that of
the Kaplan-Meier curve without covariates. All are ratios of sums of counts, or of products of two
different counts, whose noise adds no bias. Intervals (95%) are of patients and noise, by draws of
both; coefficients are those of the same patients, which flatters a model.
"""

from __future__ import annotations

import numpy as np

from protocol.statistics.estimation import Floats
from protocol.statistics.noised_table import NoisedTable
from protocol.statistics.results import Figure
from protocol.statistics.survival import at_risk_and_events, curve

_DRAWS, _Z = 200, 1.959964
_LEAST_FOLLOWED = 0.05
"""The least share of patients not yet censored by which an error is divided."""


def foretold(
    predictor: Floats,
    baseline: Floats,
    cells: Floats,
    joined: tuple[int, ...],
    widths: Floats,
    table: NoisedTable,
) -> dict[str, Figure]:
    """predictor: (C,) of each combination of factors; baseline: (K,) log cumulative hazards of the
    intervals; cells: (C, 2, K + 1) noised, of `joined` public intervals each; widths: (K,), whose
    sum is 1. A figure that the counts leave undefined is left out."""
    generator, whole = np.random.default_rng(0), np.maximum(cells, 0.0)
    patients = max(1, round(float(cells.sum())))
    drawn = generator.multinomial(patients, whole.ravel() / whole.sum(), size=_DRAWS)
    moved = cells + drawn.reshape(_DRAWS, *cells.shape) - whole * patients / whole.sum()
    for place, added in enumerate((*joined, 1)):
        noise = table.noise(generator, (_DRAWS, *cells.shape[:-1], added))
        moved[..., place] += noise.sum(axis=-1)
    hazards = np.exp(np.clip(predictor[:, None] + baseline, -30, 5))
    stated = np.exp(-np.cumsum(hazards, axis=-1))
    without = [curve(of.sum(axis=-3))[..., None, :] for of in (cells, moved)]
    figures = {
        "concordance": [concordance(predictor, of) for of in (cells, moved)],
        "integrated Brier score": [brier(stated, of, widths) for of in (cells, moved)],
        "the same of the Kaplan-Meier curve without factors": [
            brier(share, of, widths) for share, of in zip(without, (cells, moved), strict=True)
        ],
    }
    found = {}
    for name, (seen, spread) in figures.items():
        value, reach = float(seen), _Z * float(np.nanstd(spread))
        if np.isfinite([value, reach]).all():
            ends = np.clip((value, value - reach, value + reach), 0.0, 1.0)
            found[name] = Figure(*map(float, ends))
    return found


def concordance(predictor: Floats, cells: Floats) -> Floats:
    """(C,), (..., C, 2, K + 1) -> (...)."""
    cells = _by_risk(predictor, cells)
    later = np.cumsum(cells.sum(axis=-2)[..., ::-1], axis=-1)[..., ::-1]
    events, beyond = cells[..., 0, :-1], later[..., 1:] + cells[..., 1, :-1]
    lower = np.cumsum(beyond, axis=-2) - beyond / 2
    pairs = (events.sum(axis=-2) * beyond.sum(axis=-2)).sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((events * lower).sum(axis=(-2, -1)) / np.where(pairs > 0, pairs, np.nan))


def _by_risk(predictor: Floats, cells: Floats) -> Floats:
    """Combinations of one predictor together, the lowest first."""
    risks, place = np.unique(np.round(predictor, 9), return_inverse=True)
    return np.asarray(np.einsum("rc,...cej->...rej", np.eye(len(risks))[:, place], cells))


def brier(stated: Floats, cells: Floats, widths: Floats) -> Floats:
    """(..., C or 1, K) survival that a model states, (..., C, 2, K + 1), (K,) -> (...)."""
    at_risk, events = at_risk_and_events(cells.sum(axis=-3))
    left = cells.sum(axis=-3)[..., 1, :-1]
    stays = 1 - left / np.maximum(at_risk - events, 1e-9)
    followed = np.maximum(np.cumprod(np.clip(stays, 0.0, 1.0), axis=-1), _LEAST_FOLLOWED)
    before = np.concatenate([np.ones((*followed.shape[:-1], 1)), followed[..., :-1]], axis=-1)
    later = np.cumsum(cells.sum(axis=-2)[..., ::-1], axis=-1)[..., ::-1]
    alive = later[..., 1:] / followed[..., None, :]
    gone = np.cumsum(cells[..., 0, :-1] / before[..., None, :], axis=-1)
    errors = (alive * (1 - stated) ** 2 + gone * stated**2).sum(axis=-2) @ widths
    return np.asarray(errors / np.maximum(cells.sum(axis=(-3, -2, -1)), 1e-9))
