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


def fit(family: Family, design: Floats, outcomes: Floats, counts: Floats, noise: float) -> Fit:
    """design: (C, P) a row for each combination of levels, the intercept's ones first; outcomes:
    (Y,) values; counts: (C, Y) of patients, noised; noise: the variance of a cell's noise.

    Raises NoFitError as `estimation.solve`.
    """
    number = counts.sum(axis=1)

    def model(beta: Floats) -> tuple[Floats, Floats]:
        mean, weight = inverse_link(family, design @ beta)
        each = design[:, None, :] * (outcomes - mean[:, None])[..., None]
        information = (design * (number * weight)[:, None]).T @ design
        return each.reshape(-1, design.shape[1]), information

    flat = counts.ravel()
    solved = solve(model, flat, np.zeros(design.shape[1]))
    phi = 1.0
    if family == "gaussian":
        squared = (outcomes - (design @ solved[0])[:, None]) ** 2
        phi = max(float((counts * squared).sum() / (number.sum() - design.shape[1])), 0.0)
    return with_errors(solved, flat, np.full(flat.shape, noise), phi)
