"""Prototype: Kaplan-Meier and a discrete-time hazard model under central differential privacy.

Usage: python tests/cases/statistics/prototypes/survival.py DATA.csv [SPLIT.csv] [seeds]

DATA: a first column of identifiers, covariates (the first of them age in years), then event
(1 = yes) and days, by any names. SPLIT: identifier, fold (train/test), fold2 (test_0, test_1 ...,
one a site), as FLamby writes it for Fed-TCGA-BRCA. Without SPLIT only Kaplan-Meier runs. The data
are not part of this folder. No product code is called: it says what is within reach.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import brentq, minimize
from scipy.stats import norm

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_HALF_YEARS = (0, 182, 365, 548, 730, 912, 1095, 1278, 1460, 1642, 1825)
EDGES = np.array([*_HALF_YEARS, 2190, 2555, 2920, 3285, 3650, 1e9])
"""Of the histogram's intervals, in days; the first ten end at 5 years."""
GRID = np.array([0, 365, 730, 1095, 1825, 2920, 1e9])
"""Of the hazard model's intervals."""


def survival(events: Floats, censored: Floats) -> Floats:
    """(J,) events and (J,) censored by interval -> (J,) Kaplan-Meier's S(t) at its end."""
    at_risk = np.maximum((events + censored)[::-1].cumsum()[::-1], 1e-9)
    return np.asarray(np.cumprod(1 - np.clip(events / at_risk, 0, 1)))


def kaplan_meier(event: Floats, days: Floats) -> None:
    """One histogram (interval x event or censored): a patient moves one cell, so each has discrete
    Laplace noise of scale 1 / epsilon. Prints how far S(t) is from the one without noise."""
    bins, rng = len(EDGES) - 1, np.random.default_rng(0)

    def noised(counts: Floats, p: float) -> Floats:
        noise = rng.geometric(1 - p, bins) - rng.geometric(1 - p, bins)
        return np.asarray(np.maximum(counts + noise, 0))

    for n in sorted({len(days), min(228, len(days))}, reverse=True):
        for epsilon in (0.5, 1, 3):
            errors, p = [], float(np.exp(-epsilon))
            for _ in range(200):
                i = rng.permutation(len(days))[:n]
                j = np.clip(np.searchsorted(EDGES, days[i], side="right") - 1, 0, bins - 1)
                events, censored = (
                    np.bincount(j, weights=(event[i] == v), minlength=bins).astype(float)
                    for v in (1, 0)
                )
                seen = survival(noised(events, p), noised(censored, p))
                errors.append(np.abs(seen - survival(events, censored))[:10].max())
            print(
                f"Kaplan-Meier, {n} patients, epsilon {epsilon}: largest error of S(t) within "
                f"5 years: mean {np.mean(errors):.3f}, 95% {np.quantile(errors, 0.95):.3f}"
            )


def concordance(t: Floats, risk: Floats, e: Floats) -> float:
    """Harrell's c-index; NaN where no pair can be compared."""
    pairs = right = 0.0
    for i in np.flatnonzero(e == 1):
        c = (t > t[i]) | ((t == t[i]) & (e == 0))
        c[i] = False
        pairs += c.sum()
        right += (risk[i] > risk[c]).sum() + 0.5 * (risk[i] == risk[c]).sum()
    return right / pairs if pairs else float("nan")


@dataclass(frozen=True)
class Patients:
    """(N, F) covariates, (N,) event and days, (N,) who trains, and each site's (N,) test fold."""

    covariates: Floats
    event: Floats
    days: Floats
    train: Mask
    sites: Sequence[Mask]

    @staticmethod
    def of(frame: pd.DataFrame, split: pd.DataFrame) -> Patients:
        names, event, days = frame.columns[1:-2], frame.columns[-2], frame.columns[-1]
        joined = frame.merge(split, on=frame.columns[0])
        x = joined[names].to_numpy(float)
        x[:, 0] = (x[:, 0] - 60) / 20
        found = sorted(v for v in joined.fold2.unique() if str(v).startswith("test"))
        return Patients(
            x,
            joined[event].to_numpy(float),
            joined[days].to_numpy(float),
            (joined.fold == "train").to_numpy(),
            [(joined.fold2 == site).to_numpy() for site in found],
        )

    def report(self, weights: Floats) -> tuple[float, float]:
        """c-index on the test folds: the mean over sites, and of all together."""
        risk = self.covariates @ weights
        by_site = [concordance(self.days[k], risk[k], self.event[k]) for k in self.sites]
        test = ~self.train
        return float(np.nanmean(by_site)), concordance(
            self.days[test], risk[test], self.event[test]
        )


def cox(of: Patients, penalty: float) -> Floats:
    """(F,) weights of the pooled Cox model with a ridge penalty."""
    x, e, t = of.covariates[of.train], of.event[of.train], of.days[of.train]
    o = np.argsort(-t, kind="stable")

    def loss(w: Floats) -> tuple[float, Floats]:
        eta = x[o] @ w
        ex = np.exp(eta - eta.max())
        c, cx, ev = np.cumsum(ex), np.cumsum(ex[:, None] * x[o], 0), e[o] == 1
        return (
            -(eta[ev] - np.log(c[ev]) - eta.max()).sum() + penalty / 2 * w @ w,
            -(x[o][ev] - cx[ev] / c[ev, None]).sum(0) + penalty * w,
        )

    options = {"maxiter": 500}
    found: Any = minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B", options=options)
    return np.asarray(found.x)


def hazard(
    of: Patients,
    epsilon: float | None,
    seed: int,
    delta: float = 1e-4,
    steps: int = 60,
    clip: float = 1.0,
    lr: float = 2.0,
) -> Floats:
    """(F,) weights of a discrete-time hazard model. Every patient's loss is a sum over intervals:
    one clipped sum a round. Noise by exact Gaussian differential privacy; None: no noise."""
    bins = len(GRID) - 1
    j = np.searchsorted(GRID, np.maximum(of.days, 1e-6), side="left") - 1
    mask = (np.arange(bins)[None] <= j[:, None]).astype(float)[of.train]
    ended = (np.arange(bins)[None] == j[:, None]) & (of.event[:, None] == 1)
    label, x = ended.astype(float)[of.train], of.covariates[of.train]
    r, sigma = np.random.default_rng(seed), 0.0
    if epsilon is not None:
        sigma = np.sqrt(steps) / _mu(epsilon, delta)
    w, a, kept = np.zeros(x.shape[1]), np.full(bins, np.log(0.03 / 0.97)), []
    for t in range(steps):
        d = (1 / (1 + np.exp(-(x @ w)[:, None] - a[None])) - label) * mask
        g = np.concatenate([d.sum(1)[:, None] * x, d], 1)
        g *= np.minimum(1, clip / np.maximum(np.linalg.norm(g, axis=1), 1e-9))[:, None]
        noise = sigma * clip * r.standard_normal(g.shape[1])
        step = lr * (g.sum(0) + noise) / len(x) / clip
        w, a = w - step[: len(w)], a - step[len(w) :]
        if t >= steps // 2:
            kept.append(w)
    return np.asarray(np.mean(kept, axis=0))


def _mu(epsilon: float, delta: float) -> float:
    """The mu of Gaussian differential privacy whose delta at `epsilon` is this one (Dong, Roth and
    Su 2022)."""

    def excess(m: float) -> float:
        far = np.exp(epsilon) * norm.cdf(-epsilon / m - m / 2)
        return float(norm.cdf(-epsilon / m + m / 2) - far - delta)

    return float(brentq(excess, 1e-4, 20))


def main(words: Sequence[str]) -> None:
    frame = pd.read_csv(words[0])
    kaplan_meier(frame.iloc[:, -2].to_numpy(float), frame.iloc[:, -1].to_numpy(float))
    if len(words) < 2:
        return
    patients, seeds = Patients.of(frame, pd.read_csv(words[1])), 5
    if len(words) > 2:
        seeds = int(words[2])
    by_site, together = patients.report(cox(patients, 10))
    print(f"pooled Cox ridge: c-index, mean over sites {by_site:.4f}, pooled {together:.4f}")
    for epsilon in (None, 8, 3, 1):
        runs = range(1 if epsilon is None else seeds)
        found = np.array([patients.report(hazard(patients, epsilon, s)) for s in runs])
        (by_site, together), (spread, wide) = found.mean(0), found.std(0)
        print(
            f"discrete-time hazard, epsilon {epsilon}: c-index, mean over sites {by_site:.3f} "
            f"({spread:.3f}), pooled {together:.3f} ({wide:.3f})"
        )


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1:])
