"""What a bin counts as: the mean of its patients, as far as the counts tell."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.statistics.coefficients import bin_values, too_wide


def test_of_a_normal_column_bins_count_as_the_means_of_their_patients() -> None:
    drawn = np.random.default_rng(0).normal(size=200_000)
    edges = np.linspace(-2.5, 2.5, 7)
    counts, _ = np.histogram(drawn, edges)
    means = [drawn[(drawn >= low) & (drawn < high)].mean() for low, high in pairwise(edges)]
    middles = (edges[:-1] + edges[1:]) / 2
    off = np.abs(bin_values(edges, counts.astype(float), 0.0) - means)
    assert off.max() < 0.05
    assert off.max() < np.abs(middles - means).max() / 2


@given(st.lists(st.floats(-50, 1000), min_size=2, max_size=12), st.floats(0, 100))
def test_values_stay_within_their_bins_whatever_noise_does(
    counts: list[float], noise: float
) -> None:
    edges = np.arange(len(counts) + 1.0) ** 1.5
    values = bin_values(edges, np.array(counts), noise)
    assert (values > edges[:-1]).all()
    assert (values < edges[1:]).all()


def test_where_noise_could_make_up_the_counts_middles_stand() -> None:
    edges = np.arange(5.0)
    assert bin_values(edges, np.array([9.0, 2, 7, 11]), 9.0) == pytest.approx(edges[:-1] + 0.5)


@pytest.mark.parametrize(("bins", "wide"), [(3, True), (16, False)])
def test_bins_wider_than_the_spread_are_told(bins: int, wide: bool) -> None:
    edges = np.linspace(-4, 4, bins + 1)
    counts, _ = np.histogram(np.random.default_rng(1).normal(size=2000), edges)
    assert too_wide(edges, counts.astype(float)) is wide
