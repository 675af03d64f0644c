"""Statistical tests that raise a false alarm with a probability that is known, and negligible."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import stats

FALSE_ALARM = 1e-12
"""Of one look, one side: thousands of looks together stay below 1e-9."""


def is_binomial(successes: int, trials: int, probability: float) -> bool:
    """Whether so few or so many successes are not too improbable (exact binomial tails)."""
    below = stats.binom.cdf(successes, trials, probability)
    above = stats.binom.sf(successes - 1, trials, probability)
    return bool(min(below, above) > FALSE_ALARM)


def has_variance(values: npt.NDArray[np.floating], variance: float) -> bool:
    """Whether independent normal values of mean 0 may have it (chi-square tails).

    Skellam noise of variance v has a fourth cumulant of 1 / v besides, which is nothing here.
    """
    whole = float(np.square(values, dtype=np.float64).sum()) / variance
    tails = stats.chi2.cdf(whole, values.size), stats.chi2.sf(whole, values.size)
    return bool(min(tails) > FALSE_ALARM)
