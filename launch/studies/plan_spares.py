"""How many attempts a study plans beyond those that it needs, for the losses to be expected.

Each attempt is lost with a probability p, independently of the others, whoever lost it. Of a study
that needs n sums, the number of losses before the n-th sum is negative binomial, and the spare
attempts are its 99% quantile: one study in a hundred runs out of them. All are paid for with noise
from the beginning, used or not.
"""

from __future__ import annotations

from protocol.study.study import Study

QUANTILE = 0.99


def spare_attempts(needed: int, loss: float) -> int:
    """The fewest with which QUANTILE of the studies that need so many sums get them. loss: the
    probability p that an attempt is lost, in [0, 1)."""
    from scipy.stats import nbinom  # 1 s: not for whoever says how many they are

    return int(nbinom.ppf(QUANTILE, needed, 1 - loss)) if loss else 0


def enough(study: Study, loss: float) -> float:
    """The probability that the study's spare attempts are enough."""
    from scipy.stats import nbinom

    needed = study.aggregation.attempts - study.spare_attempts
    return float(nbinom.cdf(study.spare_attempts, needed, 1 - loss)) if loss else 1.0
