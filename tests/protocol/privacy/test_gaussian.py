"""Gaussian noise: the right distribution, nothing repeated, nothing told by its low bits."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from protocol.privacy import gaussian as module
from protocol.privacy.gaussian import EDGE, LAYERS, SLACK, gaussian, grid, noised
from protocol.privacy.randomness import Stream

CHANCE = 1e-6


def test_values_are_standard_normal_and_independent() -> None:
    values = gaussian(400_000)
    assert stats.kstest(values, "norm").pvalue > CHANCE
    assert abs(values.var() - 1) < 6 * np.sqrt(2 / 400_000)
    assert abs((values**4).mean() - 3) < 6 * np.sqrt(96 / 400_000)
    for lag in (1, 2, 200_000):
        assert stats.pearsonr(values[:-lag], values[lag:]).pvalue > CHANCE
        assert stats.pearsonr(values[:-lag] ** 2, values[lag:] ** 2).pvalue > CHANCE


def test_layers_hold_the_same_area_each_and_end_at_the_top() -> None:
    """Then a point of a layer drawn evenly, kept where it is below f, is one below f, evenly."""
    table = module._ziggurat()
    area = table.edge[1:-1] * np.diff(table.height)[1:]
    base = EDGE * math.exp(-(EDGE**2) / 2) + math.sqrt(2 * math.pi) * stats.norm.sf(EDGE)
    assert area == pytest.approx(base, rel=2e-11)
    assert table.edge[0] * table.height[1] == pytest.approx(base, rel=1e-12)
    assert (np.diff(table.edge) < 0).all()


def test_every_part_of_the_range_has_its_share() -> None:
    """Of 4 million values: cells of a fiftieth of a deviation, the wedges of every layer (between
    its own edge and the next one's) and the tail."""
    values = np.abs(np.concatenate([gaussian(1 << 19) for _ in range(8)]))
    for edges in (np.linspace(0, 4, 201), module._ziggurat().edge[::-1][: LAYERS + 1 : 4]):
        edges = np.append(edges[edges < 4.2], np.inf)
        expected = np.diff(stats.norm.cdf(edges)) * 2 * len(values)
        found = np.histogram(values, edges)[0]
        assert stats.chisquare(found, expected * found.sum() / expected.sum()).pvalue > CHANCE


def test_the_tail_is_the_normal_one_beyond_its_edge() -> None:
    values = module._tail(200_000, Stream())
    assert values.min() > EDGE
    beyond = stats.norm.sf(values) / stats.norm.sf(EDGE)
    assert stats.kstest(beyond, "uniform").pvalue > CHANCE


def test_no_two_calls_give_the_same_noise_even_under_a_global_seed() -> None:
    calls = []
    for _ in range(2):
        np.random.seed(0)
        calls.append(gaussian(100))
    assert not np.any(calls[0] == calls[1])


def test_lengths_beyond_a_block_and_zero() -> None:
    assert gaussian(0).shape == (0,)
    assert gaussian(1).shape == (1,)
    values = gaussian((1 << 18) + 3)
    assert values.shape == ((1 << 18) + 3,)
    assert np.isfinite(values).all()
    assert len(np.unique(values)) == len(values)


@given(
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=50),
    st.floats(0.01, 100),
    st.floats(0.1, 20),
)
def test_a_noised_sum_is_the_rounded_total_of_a_rounded_sum(
    sums: list[float], clip_norm: float, deviation: float
) -> None:
    """So it is a function of what the Gaussian mechanism releases, for a sum on the grid."""
    step = grid(clip_norm, 1000)
    noise = gaussian(len(sums))
    found = noised(np.array(sums, dtype=np.float32), noise, deviation, step)
    spreads = (noise * deviation).tolist()
    for value, total, spread in zip(sums, found.tolist(), spreads, strict=True):
        # In whole numbers: a float of a large sum and its noise cannot tell .5 from nearly .5.
        exact, steps = Fraction(spread) / Fraction(step), Fraction(total) / Fraction(step)
        assert steps.denominator == 1
        assert abs(steps - round(Fraction(value) / Fraction(step)) - exact) <= Fraction(1, 2)


@given(st.floats(1e-3, 1e3), st.integers(1, 10**8))
def test_rounding_moves_neighbouring_sums_apart_by_the_slack_at_most(
    clip_norm: float, dimensions: int
) -> None:
    step = grid(clip_norm, dimensions)
    assert math.frexp(step)[0] == 0.5
    assert (
        step / 2 * math.sqrt(dimensions) * 2
        <= clip_norm * SLACK
        < 2.01 * step * math.sqrt(dimensions)
    )


def test_low_bits_do_not_tell_which_sum_was_noised() -> None:
    """Mironov (2012): fl(1 + noise) near 0 is a multiple of 2^-53, fl(0 + noise) any float."""
    step = grid(1.0, 1000)
    for value in (0.0, 1.0, 1e-3):
        found = noised(np.full(100_000, value), gaussian(100_000), 1.0, step) / step
        assert (found == np.rint(found)).all()
        assert len(np.unique(np.rint(found) % 64)) == 64
