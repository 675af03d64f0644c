"""Generalised linear models from one noised table of factors by outcome, with the canonical link.

The score X'(y - mu) is a sum over cells, linear in their counts: noise of variance v on each cell
leaves it unbiased and adds v * sum of (y - mu)^2 x x' over all cells to its covariance, exactly.
So with H = X'WX the coefficients have covariance H^-1 (phi H + that) H^-1 (White 1982); the robust
one has the patients' own squared residuals in place of phi H. Newton's steps start at 0 (McCullagh
and Nelder 1989, 2.5). Counts are taken as they were opened, for the least biased score; only phi is
kept above 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

import numpy as np
import numpy.typing as npt

from protocol.study.analysis import Family

Floats = npt.NDArray[np.float64]
MAX_STEPS, TOLERANCE = 50, 1e-10
WORST_CONDITION = 1e8
"""Of the information matrix, scaled to a diagonal of ones; beyond it factors are collinear."""


@dataclass(frozen=True)
class Fit:
    """coefficients, errors (noise and patients together), robust and sampling ones (of patients
    alone): (P,) each."""

    coefficients: Floats
    errors: Floats
    robust: Floats
    sampling: Floats


class NoFitError(Exception):
    """There are no estimates; the text says why, in the field's words."""


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

    Raises NoFitError where Newton's steps do not end: separation, collinearity, too much noise.
    """
    number, total = counts.sum(axis=1), counts @ outcomes
    beta = np.zeros(design.shape[1])
    for _ in range(MAX_STEPS):
        mean, weight = inverse_link(family, design @ beta)
        information = _weighted(design, number * weight)
        _require_invertible(information)
        step = np.linalg.solve(information, design.T @ (total - number * mean))
        beta = beta + step * min(1.0, 5.0 / max(float(np.abs(step).max()), 1e-12))
        if float(np.abs(step).max()) < TOLERANCE * max(1.0, float(np.abs(beta).max())):
            break
    else:
        raise NoFitError("the estimates run away (separation), or noise outweighs the counts")
    mean, weight = inverse_link(family, design @ beta)
    bread = np.linalg.inv(_weighted(design, number * weight))
    squared = (outcomes - mean[:, None]) ** 2
    own = (counts * squared).sum(axis=1)
    phi = max(float(own.sum() / (number.sum() - len(beta))), 0.0) if family == "gaussian" else 1.0
    of_noise = noise * _weighted(design, squared.sum(axis=1))
    of_noise_alone = bread @ of_noise @ bread
    sampling = phi * bread
    robust = bread @ _weighted(design, own) @ bread
    return Fit(
        beta,
        np.sqrt(np.diag(sampling + of_noise_alone)),
        np.sqrt(np.maximum(np.diag(robust), 0.0) + np.diag(of_noise_alone)),
        np.sqrt(np.diag(sampling)),
    )


def _weighted(design: Floats, weights: Floats) -> Floats:
    return np.asarray((design * weights[:, None]).T @ design)


def _require_invertible(information: Floats) -> None:
    scale = np.sqrt(np.maximum(np.diag(information), 0.0))
    if not np.all(scale > 0):
        raise NoFitError("a level has nobody in it, or the estimates run away (separation)")
    values = np.linalg.eigvalsh(information / np.outer(scale, scale))
    if values[0] <= 0 or values[-1] / values[0] > WORST_CONDITION:
        raise NoFitError("factors say the same (collinearity), or noise outweighs the counts")
