"""A query's noise as sites draw it: the law that epsilon was computed from, for both mechanisms.

|U| = 3 and x = 2, so that each share has to suffice by itself: it is the whole noise.
"""

from __future__ import annotations

import math

import numpy as np

from protocol.privacy import query_noise
from protocol.study.study import Study
from tests.exact_tails import has_variance, is_binomial
from tests.protocol.query_document import asked

DRAWS = 200
STATISTICS = [{"kind": "cells", "name": f"n{number}"} for number in range(50)]


def query(mechanism: str, scale: int) -> Study:
    return asked(
        {"statistics": STATISTICS, "mechanism": mechanism},
        aggregation={"attempts": 1, "colluding_sites": 2},
        evaluation={"noise_multiplier": 4.0, "scale": scale},
    )


def shares(study: Study, participants: int = 3) -> np.ndarray:
    """(DRAWS, cells) of one site."""
    return np.array([query_noise.share(study, participants) for _ in range(DRAWS)])


def test_shares_of_discrete_laplace_noise_have_its_law() -> None:
    """P(k) = (1 - a) / (1 + a) a^|k|, a = exp(-epsilon / scale), epsilon 1 / 4."""
    ratio = math.exp(-1 / 4)
    drawn = shares(query("laplace", 1))
    for value in range(-8, 9):
        probability = (1 - ratio) / (1 + ratio) * ratio ** abs(value)
        assert is_binomial(int((drawn == value).sum()), drawn.size, probability), value
    for one, other in ((drawn[:, 0::2], drawn[:, 1::2]), (drawn[0::2], drawn[1::2])):
        positive = (1 - (1 - ratio) / (1 + ratio)) / 2
        assert is_binomial(int(((one > 0) & (other > 0)).sum()), one.size, positive**2)


def test_shares_of_skellam_noise_have_its_variance() -> None:
    study = query("skellam", 256)
    drawn, variance = shares(study), (4.0 * 256) ** 2
    assert has_variance(drawn, variance)
    assert has_variance(drawn.sum(0), DRAWS * variance)
    assert has_variance(drawn.sum(1), drawn.shape[1] * variance)


def test_the_honest_share_it_among_them() -> None:
    """Of five, two may tell: three make up the noise, and all five a little more."""
    study = query("skellam", 256)
    assert has_variance(shares(study, participants=5), (4.0 * 256) ** 2 / 3)
