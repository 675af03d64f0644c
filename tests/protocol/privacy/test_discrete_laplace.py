"""Shares of discrete Laplace noise: what they add up to, exactly and in draws, and alone."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2, nbinom

from protocol.privacy import discrete_laplace
from protocol.privacy.discrete_laplace import distribution, share, share_epsilon, tail

FALSE_ALARM = 1e-7
EPSILONS = st.floats(0.05, 3.0)


def discrete_laplace_pmf(epsilon: float, reach: int) -> np.ndarray:
    ratio = math.exp(-epsilon)
    return (1 - ratio) / (1 + ratio) * ratio ** np.abs(np.arange(-reach, reach + 1))


@pytest.mark.parametrize("honest", [2, 3, 5, 19])
def test_the_shares_of_all_honest_sites_are_discrete_laplace(honest: int) -> None:
    """The convolution of the table's own probabilities is the claimed distribution, to 1e-12."""
    epsilon, size = 0.5, 600
    table = np.array(discrete_laplace._table(epsilon, 1.0, honest)[: size // 2], dtype=object)
    single = np.array([float(Fraction(int(x), 2**128)) for x in np.diff(table, prepend=0)])
    transform = np.fft.fft(single, size)
    both = np.abs(transform) ** (2 * honest)  # X - Y of each of the sites
    found = np.roll(np.fft.ifft(both).real, size // 2)
    expected = discrete_laplace_pmf(epsilon, size // 2)[:size]
    assert np.abs(found - expected).max() < 1e-12


@pytest.mark.parametrize(("epsilon", "scale", "honest"), [(0.5, 1.0, 3), (1.3, 8.0, 6)])
def test_the_table_is_the_negative_binomial_distribution(
    epsilon: float, scale: float, honest: int
) -> None:
    table = discrete_laplace._table(epsilon, scale, honest)
    k = np.arange(0, len(table), max(1, len(table) // 50))
    expected = nbinom.cdf(k, 1 / honest, 1 - math.exp(-epsilon / scale))
    found = [float(Fraction(table[int(at)], 2**128)) for at in k]
    assert np.abs(np.array(found) - expected).max() < 1e-12
    assert table[-1] == 2**128 - 1
    assert table == sorted(table)
    assert len(table) < 2**20


@pytest.mark.parametrize(("honest", "participants"), [(3, 3), (3, 4)])
def test_drawn_shares_pass_a_chi_square_test(honest: int, participants: int) -> None:
    draws = np.sum([share(0.5, 1.0, honest, 40_000) for _ in range(participants)], axis=0)
    values, chances = distribution(0.5, 1.0, participants / honest)
    inner = np.abs(values) <= 14
    expected = np.append(chances[inner], 1 - chances[inner].sum()) * len(draws)
    observed = [int((draws == value).sum()) for value in values[inner]]
    observed.append(len(draws) - sum(observed))
    statistic = float(((np.array(observed) - expected) ** 2 / expected).sum())
    assert expected.min() > 5
    assert statistic < chi2.ppf(1 - FALSE_ALARM, len(expected) - 1)


def test_the_closed_form_of_the_sum_is_discrete_laplace() -> None:
    values, chances = distribution(0.5, 1.0, 1.0)
    assert np.abs(chances - discrete_laplace_pmf(0.5, int(values[-1]))).max() < 1e-12
    assert chances.sum() == pytest.approx(1, abs=1e-12)


@given(epsilon=EPSILONS, scale=st.sampled_from([1.0, 2.0, 8.0, 64.0]), honest=st.integers(2, 40))
def test_one_share_alone_costs_at_most_what_is_said(
    epsilon: float, scale: float, honest: int
) -> None:
    """Over every output and every way to split the move over one or two cells."""
    said = share_epsilon(epsilon, scale, honest)
    assert said >= epsilon
    _, chances = distribution(epsilon, scale, 1 / honest)
    middle, reach = len(chances) // 2, int(3 * scale)
    alone = chances[middle - 2 * reach : middle + 2 * reach + 1]
    steps = range(1, int(scale) + 1)

    def worst(step: int) -> float:
        return max(np.abs(np.log(alone[step:] / alone[:-step])), default=0.0) if step else 0.0

    clear = alone.min() > 1e-9  # above the transform's rounding
    if clear and scale <= 8:
        splits = [(step, int(scale) - step) for step in steps] if scale > 1 else [(1, 0)]
        assert max(worst(a) + worst(b) for a, b in splits) <= said * (1 + 1e-4)


@given(
    epsilon=EPSILONS,
    shape=st.floats(0.05, 4.0),
    probability=st.sampled_from([1e-1, 1e-3, 1e-6]),
)
def test_the_tail_bound_holds(epsilon: float, shape: float, probability: float) -> None:
    values, chances = distribution(epsilon, 1.0, shape)
    beyond = np.abs(values) >= tail(epsilon, 1.0, shape, probability)
    assert chances[beyond].sum() <= probability + 1e-12


def test_shares_are_fresh() -> None:
    assert not np.array_equal(share(0.1, 1.0, 3, 50), share(0.1, 1.0, 3, 50))
