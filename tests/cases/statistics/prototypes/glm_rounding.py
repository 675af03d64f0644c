"""Prototype: a federated logistic regression by IRLS (Newton) inside the existing secure sum.

Each of four sites rounds its sums of X'(y-p) and X'WX to multiples of 2^-b before adding: how far
are coefficients and standard errors then from the pooled fit? Any public table will do:
scikit-learn's breast cancer, six covariates. No product code is called.

Usage: python tests/cases/statistics/prototypes/glm_rounding.py
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_breast_cancer

Floats = npt.NDArray[np.float64]

SITES, MAX_STEPS = 4, 25
WANTED = 1e-8
"""What a federated regression of the product has to reach, relative to the pooled fit."""


@dataclass(frozen=True)
class Fit:
    """(F,) coefficients, the intercept first, and (F,) their standard errors."""

    coefficients: Floats
    standard_errors: Floats
    steps: int


def patients() -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
    """(N, F) standardised covariates with a column of ones, (N,) labels, (N,) site."""
    d = load_breast_cancer()
    x = (d.data - d.data.mean(0)) / d.data.std(0)
    x = np.concatenate([np.ones((len(x), 1)), x[:, [0, 1, 4, 5, 7, 8]]], axis=1)
    return x, d.target.astype(float), np.random.default_rng(0).integers(0, SITES, len(x))


def irls(x: Floats, y: Floats, site: npt.NDArray[np.int64], bits: int | None) -> Fit:
    """Newton's steps on summed gradients and Hessians, each site's rounded to `bits` after the
    point; None rounds nothing, which is the pooled fit."""
    b, steps, moved = np.zeros(x.shape[1]), 0, np.inf
    while steps < MAX_STEPS and moved >= 1e-12:
        gradient, hessian = np.zeros(len(b)), np.zeros((len(b), len(b)))
        for s in range(SITES):
            xs, ys = x[site == s], y[site == s]
            p = 1 / (1 + np.exp(-xs @ b))
            gs, hs = xs.T @ (ys - p), (xs * (p * (1 - p))[:, None]).T @ xs
            if bits is not None:
                gs, hs = (np.rint(of * 2.0**bits) / 2.0**bits for of in (gs, hs))
            gradient, hessian = gradient + gs, hessian + hs
        move = np.linalg.solve(hessian, gradient)
        b, steps, moved = b + move, steps + 1, float(np.abs(move).max())
    return Fit(b, np.sqrt(np.diag(np.linalg.inv(hessian))), steps)


def errors(found: Fit, pooled: Fit) -> tuple[float, float]:
    """Largest relative error of coefficients, and of standard errors."""
    pairs = (
        (found.coefficients, pooled.coefficients),
        (found.standard_errors, pooled.standard_errors),
    )
    of_coefficients, of_errors = (float(np.abs((a - b) / b).max()) for a, b in pairs)
    return of_coefficients, of_errors


def main() -> None:
    x, y, site = patients()
    pooled = irls(x, y, site, None)
    print(
        f"pooled {pooled.coefficients.round(4)}, "
        f"standard errors {pooled.standard_errors.round(4)}, {pooled.steps} steps"
    )
    for bits in (12, 16, 20, 24, 30, 40):
        fit = irls(x, y, site, bits)
        of_coefficients, of_errors = errors(fit, pooled)
        print(
            f"{bits} bits after the point: largest relative error of coefficients "
            f"{of_coefficients:.1e}, of standard errors {of_errors:.1e}, {fit.steps} steps"
        )
    print(f"wanted of the product: below {WANTED:g}")


if __name__ == "__main__":
    main()
