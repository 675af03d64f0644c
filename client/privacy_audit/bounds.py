"""What an attack's hits prove of a mechanism's noise: pure functions of counts.

A study claims more than one (epsilon, delta): a mechanism with a certain noise, and with it a limit
to every test that tells two neighbouring data sets apart, whatever its false positive rate (the
trade-off function f: Dong, Roth and Su 2022). An audit measures tests, and asks for the most noise
that their rates of error, within confidence, still contradict (Nasr et al. 2023, section 4; for one
run Mahloujifar, Melis and Chaudhuri 2025). Epsilon at that noise is a lower bound of the true one,
for a mechanism of the claimed kind; for any other, it shows that the claim is broken.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

CONFIDENCE = 0.9999
"""With which a lower bound holds: of 10,000 audits of honest code, one may be above the truth."""

Floats = npt.NDArray[np.float64]
Inverse = Callable[[float], float]
"""x -> the least probability under one data set of an event that has probability x under its
neighbour: f(1 - x) for a trade-off function f."""


def min_rate(hits: int, runs: int, error: float) -> float:
    """What a rate cannot lie below, but with probability `error` (Clopper and Pearson 1934)."""
    from scipy.special import betaincinv  # .1 s: not for whoever never audits

    return 0.0 if hits == 0 else float(betaincinv(hits, runs - hits + 1, error))


def max_rate(hits: int, runs: int, error: float) -> float:
    """What a rate cannot lie above, but with probability `error`."""
    from scipy.special import betaincinv

    return 1.0 if hits == runs else float(betaincinv(hits + 1, runs - hits, 1 - error))


def shift(false_rate: float, true_rate: float, sampling_rate: float) -> float:
    """The least mu for which a test may have these rates on one release of the Gaussian mechanism
    over a Poisson sample: sensitivity over the deviation of the noise.

    Of two sums, N(0, 1) without a patient and (1 - q) N(0, 1) + q N(mu, 1) with it, the best test
    is a threshold (Neyman and Pearson), and no neighbours are told apart better (Zhu, Dong and Wang
    2022, theorem 11). 0 where the rates say nothing; inf where no mu explains them, for the patient
    is in the sample more often than claimed.
    """
    from scipy.special import ndtri

    sampled = (true_rate - (1 - sampling_rate) * false_rate) / sampling_rate
    if sampled <= 0 or false_rate >= 1:
        return 0.0
    if sampled >= 1:
        return math.inf
    return max(0.0, float(ndtri(sampled) - ndtri(false_rate)))


def many_runs(
    false_hits: int, hits: int, runs: int, sampling_rate: float, error: float = 1 - CONFIDENCE
) -> float:
    """The mu that an honest mechanism exceeds, but with probability `error`.

    hits, false_hits: of `runs` independent releases with the patient and of as many without, those
    that a test, fixed before, took for releases with the patient.
    """
    return shift(
        max_rate(false_hits, runs, error / 2), min_rate(hits, runs, error / 2), sampling_rate
    )


def refuted(
    inverse: Inverse, canaries: int, guesses: int, right: int, error: float = 1 - CONFIDENCE
) -> bool:
    """Whether one run refutes a trade-off function: mechanisms that keep it let so many guesses be
    right with a probability below `error`.

    Each of `canaries` was in the data or not by a fair coin; of `guesses` of them, chosen by any
    rule that does not know the coins, it was said which (Mahloujifar, Melis and Chaudhuri 2025,
    theorem 3.2 and the algorithm with abstention).
    """
    r, h = error * right / canaries, error * (guesses - right) / canaries
    for number in range(right - 1, -1, -1):
        raised = max(h, inverse(r))
        r += number / (guesses - number) * (raised - h)
        h = raised
        if r + h > guesses / canaries:
            return True
    return False


def gaussian(mu: float) -> Inverse:
    """Of the Gaussian mechanism with sensitivity mu times its deviation."""
    from scipy.special import ndtr, ndtri

    return lambda x: float(ndtr(ndtri(x) - mu))


def profile(epsilons: Floats, deltas: Floats) -> Inverse:
    """Of a mechanism that is (epsilon, delta)-private for each of these pairs, in both directions
    (Dong, Roth and Su 2022, proposition 2.12)."""
    rise = np.exp(epsilons)

    def inverse(x: float) -> float:
        low = (x - deltas) / rise
        high = 1 - deltas - rise * (1 - x)
        return max(0.0, float(low.max()), float(high.max()))

    return inverse
