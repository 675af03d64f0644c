"""Estimates from scores that are sums over the cells of a noised table.

A model's score is the sum over cells of count times a vector g of the cell, which depends on the
parameters alone. Noise of variance v on a count therefore leaves the score unbiased and adds
v g g' to its covariance, exactly; the patients' own covariance is the model's information, or in
the robust form the sum of count times g g' (White 1982; Lin and Wei 1989). Counts are taken as they
were opened, for the least biased score. Newton's steps use the expected information.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
MAX_STEPS, TOLERANCE, LONGEST_STEP = 50, 1e-10, 5.0
WORST_CONDITION = 1e8
"""Of the information matrix, scaled to a diagonal of ones; beyond it factors are collinear."""

Model = Callable[[Floats], tuple[Floats, Floats]]
"""(P,) parameters -> (N, P) g of each cell, (P, P) expected information."""


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


def solve(model: Model, counts: Floats, start: Floats) -> tuple[Floats, Floats, Floats]:
    """(N,) counts, (P,) -> the parameters where the score is 0, their g and information.

    Raises NoFitError where Newton's steps do not end: separation, collinearity, too much noise.
    """
    parameters = start
    for _ in range(MAX_STEPS):
        each, information = model(parameters)
        _require_invertible(information)
        step = np.linalg.solve(information, each.T @ counts)
        longest = float(np.abs(step).max())
        parameters = parameters + step * min(1.0, LONGEST_STEP / max(longest, 1e-12))
        if longest < TOLERANCE * max(1.0, float(np.abs(parameters).max())):
            return (parameters, *model(parameters))
    raise NoFitError("the estimates run away (separation), or noise outweighs the counts")


def with_errors(
    solved: tuple[Floats, Floats, Floats], counts: Floats, noise: Floats, phi: float = 1.0
) -> Fit:
    """noise: (N,) variance of each count's; phi: the dispersion, which the patients' covariance of
    the score has beside the information."""
    parameters, each, information = solved
    bread = np.linalg.inv(information)

    def variances(weights: Floats) -> Floats:
        return np.asarray(np.diag(bread @ (each * weights[:, None]).T @ each @ bread))

    sampling, of_noise = phi * np.diag(bread), variances(noise)
    return Fit(
        parameters,
        np.sqrt(sampling + of_noise),
        np.sqrt(np.maximum(variances(counts), 0.0) + of_noise),
        np.sqrt(sampling),
    )


def _require_invertible(information: Floats) -> None:
    scale = np.sqrt(np.maximum(np.diag(information), 0.0))
    if not np.all(scale > 0):
        raise NoFitError("a level has nobody in it, or the estimates run away (separation)")
    values = np.linalg.eigvalsh(information / np.outer(scale, scale))
    if values[0] <= 0 or values[-1] / values[0] > WORST_CONDITION:
        raise NoFitError("factors say the same (collinearity), or noise outweighs the counts")
