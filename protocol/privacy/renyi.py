"""Renyi differential privacy of subsampled Gaussian and Skellam noise, at integer orders.

Looser than a privacy loss distribution (6-18% here), but a bound for every scale of Skellam noise,
and a quick first estimate. All functions are for adding or removing one patient.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln, logsumexp

from protocol.secagg.fixed_point import Sensitivity

Floats = npt.NDArray[np.float64]
ORDERS = np.array([*range(2, 129), 160, 192, 256, 320, 384, 512, 768, 1024])


def gaussian(noise_multiplier: float) -> Callable[[Floats], Floats]:
    """R(a) = a / (2 sigma^2) (Mironov 2017, proposition 7)."""
    return lambda order: order / (2 * noise_multiplier**2)


def pure(epsilon: float) -> Callable[[Floats], Floats]:
    """Of randomised response, and so of any mechanism of this epsilon with delta 0, which is a
    post-processing of it (Mironov 2017, proposition 6)."""

    def bound(order: Floats) -> Floats:
        both = np.logaddexp(order * epsilon, (1 - order) * epsilon) - np.logaddexp(0.0, epsilon)
        return np.asarray(both / (order - 1))

    return bound


def skellam(moved: Sensitivity, variance: float) -> Callable[[Floats], Floats]:
    """Of Skellam noise of this variance a coordinate (Agarwal, Kairouz and Liu 2021, cor. 3.6)."""

    def bound(order: Floats) -> Floats:
        leading = order * moved.l2**2 / (2 * variance)
        first = ((2 * order - 1) * moved.l2**2 + 6 * moved.l1) / (4 * variance**2)
        return leading + np.minimum(first, 3 * moved.l1 / (2 * variance))

    return bound


def subsampled(bound: Callable[[Floats], Floats], sampling_rate: float) -> Floats:
    """(len(ORDERS),) Renyi divergences when each patient is Poisson-sampled with this rate.

    With P the noise, Q the noise moved by one patient, and M = (1 - q) P + q Q:
    E_P[(M / P)^a] is a binomial sum whose terms E_P[(Q / P)^k] are exp((k - 1) D_k(Q, P)), so a
    bound on every D_k bounds it. That this direction is the larger of the two needs an involution
    that swaps P and Q (Mironov, Talwar and Zhang 2019, theorem 5); noise symmetric about 0 has
    one, y -> v - y for the shift v, on integers as on reals. Quasi-convexity takes it from one
    patient's P and Q to the mixture over the others' samples.
    """
    if sampling_rate == 1:
        return bound(ORDERS.astype(np.float64))
    k = np.arange(int(ORDERS[-1]) + 1, dtype=np.float64)
    moments = np.concatenate([[0.0, 0.0], (k[2:] - 1) * bound(k[2:])])
    moments += k * np.log(sampling_rate) - gammaln(k + 1)
    values = np.empty(len(ORDERS))
    for place, order in enumerate(ORDERS):
        rest = order - k[: order + 1]
        terms = moments[: order + 1] + rest * np.log1p(-sampling_rate) - gammaln(rest + 1)
        values[place] = max(0.0, gammaln(order + 1) + logsumexp(terms)) / (order - 1)
    return values


def epsilon(divergences: Floats, delta: float) -> float:
    """Of composed divergences at ORDERS (Canonne, Kamath and Steinke 2020, proposition 12).
    An order whose divergence is no number (it overflowed) bounds nothing; with none left, inf."""
    a = ORDERS.astype(np.float64)
    values = divergences + np.log1p(-1 / a) - np.log(delta * a) / (a - 1)
    known = values[~np.isnan(values)]
    return max(0.0, float(known.min())) if len(known) else math.inf
