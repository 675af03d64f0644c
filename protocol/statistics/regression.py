"""Generalised linear models with the canonical link from a table of factors by outcome.

The score X'(y - mu) is a sum over cells (McCullagh and Nelder 1989, 2.5): see
`protocol.statistics.estimation`.
"""

from __future__ import annotations

from typing import assert_never

import numpy as np

from protocol.statistics.estimation import Fit, Floats, solve, with_errors
from protocol.study.analysis import Family


def inverse_link(family: Family, linear: Floats) -> tuple[Floats, Floats]:
    """Linear predictor -> mean, and variance by unit of phi (its derivative)."""
    match family:
        case "binomial":
            mean = 1 / (1 + np.exp(-np.clip(linear, -40, 40)))
            return mean, mean * (1 - mean)
        case "gaussian":
            return linear, np.ones_like(linear)
        case "poisson":
            mean = np.exp(np.clip(linear, -40, 40))
            return mean, mean
    assert_never(family)


def fit(
    family: Family,
    design: Floats,
    outcomes: Floats,
    counts: Floats,
    noise: float,
    offset: Floats | None = None,
    weights: Floats | None = None,
) -> Fit:
    """design: (C, P) a row for each combination of levels, the intercept's ones first; outcomes:
    (Y,) values; counts: (C, Y) of patients, noised; noise: the variance of a cell's noise; offset:
    (C,) of the linear predictor; weights: (C,) prior weights, none below 0.

    Raises NoFitError as `estimation.solve`.
    """
    number = counts.sum(axis=1)
    offset = np.zeros(len(design)) if offset is None else offset
    weights = np.ones(len(design)) if weights is None else weights

    def model(beta: Floats) -> tuple[Floats, Floats]:
        mean, weight = inverse_link(family, design @ beta + offset)
        each = design[:, None, :] * (weights[:, None] * (outcomes - mean[:, None]))[..., None]
        information = (design * (number * weights * weight)[:, None]).T @ design
        return each.reshape(-1, design.shape[1]), information

    flat, start = counts.ravel(), np.zeros(design.shape[1])
    start[0] = _intercept(family, outcomes, np.maximum(counts, 0.0) * weights[:, None], offset)
    solved = solve(model, flat, start)
    phi = 1.0
    if family == "gaussian":
        squared = (outcomes - (design @ solved[0] + offset)[:, None]) ** 2 * weights[:, None]
        phi = max(float((counts * squared).sum() / (number.sum() - design.shape[1])), 0.0)
    return with_errors(solved, flat, np.full(flat.shape, noise), phi)


def _intercept(family: Family, outcomes: Floats, counts: Floats, offset: Floats) -> float:
    """About that of a model without covariates, to begin with."""
    whole = max(float(counts.sum()), 1e-9)
    mean = float((counts @ outcomes).sum()) / whole
    beside = float(counts.sum(axis=1) @ offset) / whole
    match family:
        case "binomial":
            share = min(max(mean, 0.01), 0.99)
            return float(np.log(share / (1 - share))) - beside
        case "gaussian":
            return mean - beside
        case "poisson":
            return float(np.log(max(mean, 0.01))) - beside
    assert_never(family)
