"""Iterates that follow from opened integers alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from client.cohorts.exact_design import ExactDesign
from protocol.errors import Code, WardroundError
from protocol.exact.newton import FRACTION_BITS, Iterate, advance
from protocol.study.exact_analysis import ExactAnalysis
from tests.protocol.exact.exact_studies import design, logistic, opened

UNIT = 2.0**-FRACTION_BITS


def drawn(n: int, beta: list[float], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    x = generator.uniform(-1, 1, (n, len(beta)))
    return x, (generator.random(n) < 1 / (1 + np.exp(-(x @ beta)))).astype(float)


def fitted(analysis: ExactAnalysis, sites: list[ExactDesign]) -> tuple[Iterate, int]:
    iterate, used = Iterate.first(analysis), 0
    while not iterate.converged:
        iterate, used = advance(analysis, iterate, opened(analysis, sites, iterate)), used + 1
        assert used <= 15
    return iterate, used


def test_sites_together_find_what_one_would() -> None:
    """Four sites, each with its intercept, and the same patients with a column for each site: the
    score of the pooled model is 0 at the coefficients found."""
    x, y = drawn(800, [1.0, -0.5, 0.0])
    sites = [design(x[at::4], y[at::4]) for at in range(4)]
    iterate, used = fitted(logistic(3), sites)
    assert used <= 8
    assert iterate.sums is not None
    beta = np.array(iterate.at) * UNIT
    exact = opened(logistic(3), sites, iterate)
    assert np.abs(np.array(exact.gradient) * 2.0**-44).max() < 1e-9
    assert np.abs(beta - [1.0, -0.5, 0.0]).max() < 0.6


def test_the_same_integers_give_the_same_iterate() -> None:
    x, y = drawn(300, [2.0, 1.0])
    sites = [design(x[::2], y[::2]), design(x[1::2], y[1::2])]
    analysis = logistic(2)
    first = opened(analysis, sites, Iterate.first(analysis))
    assert advance(analysis, Iterate.first(analysis), first) == advance(
        analysis, Iterate.first(analysis), first
    )
    other = replace(first, gradient=(first.gradient[0] + 2**20, *first.gradient[1:]))
    assert advance(analysis, Iterate.first(analysis), other) != advance(
        analysis, Iterate.first(analysis), first
    )


def test_an_iterate_outside_of_the_range_ends_the_study() -> None:
    x, y = drawn(300, [2.0, 1.0])
    analysis = logistic(2, coefficient_range=0.1)
    first = Iterate.first(analysis)
    with pytest.raises(WardroundError, match="separation") as caught:
        advance(analysis, first, opened(analysis, [design(x, y)], first))
    assert caught.value.code is Code.DIVERGED


def test_a_step_that_raises_the_deviance_is_halved() -> None:
    x, y = drawn(300, [2.0])
    analysis = logistic(1)
    first = Iterate.first(analysis)
    second = advance(analysis, first, opened(analysis, [design(x, y)], first))
    worse = opened(analysis, [design(x, y)], second)
    worse = replace(worse, deviance=worse.deviance * 2)
    third = advance(analysis, second, worse)
    assert third.base == first.at
    assert abs(2 * third.at[0] - second.at[0]) <= 1


def test_a_sum_of_half_a_patient_is_no_sum() -> None:
    x, y = drawn(300, [2.0])
    analysis = logistic(1)
    first = Iterate.first(analysis)
    sums = opened(analysis, [design(x, y)], first)
    with pytest.raises(WardroundError, match="whole number") as caught:
        advance(analysis, first, replace(sums, patients=sums.patients + 1))
    assert caught.value.code is Code.AGGREGATION


def test_a_badly_conditioned_model_is_found_within_1e_8() -> None:
    """Condition number of the information: above 1e6. The score of the pooled data is 0 where the
    coefficients are right; the next exact step is the error that is left."""
    x, y = drawn(4000, [1.0, -1.0])
    x = np.column_stack([x, x[:, 0] + 2e-3 * x[:, 1] ** 2])
    x /= np.abs(x).max(axis=0)
    analysis = logistic(3, coefficient_range=1000.0)
    sites = [design(x[at::4], y[at::4]) for at in range(4)]
    iterate, _ = fitted(analysis, sites)
    assert iterate.sums is not None
    information = np.array(iterate.sums.information, float)
    assert np.linalg.cond(information) > 1e6
    beta = np.array(iterate.at) * UNIT
    found = _newton_in_floats(x, y, np.arange(len(y)) % 4)
    assert np.abs(beta / found - 1).max() < 1e-8


def _newton_in_floats(x: np.ndarray, y: np.ndarray, site: np.ndarray) -> np.ndarray:
    """Pooled, with a column for each site, by least squares of long doubles' condition."""
    full = np.column_stack([x, site[:, None] == np.arange(4)])
    beta = np.zeros(full.shape[1])
    for _ in range(50):
        mean = 1 / (1 + np.exp(-(full @ beta)))
        root = np.sqrt(mean * (1 - mean))
        step = np.linalg.lstsq(full * root[:, None], (y - mean) / root, rcond=None)[0]
        beta = beta + step
    return beta[: x.shape[1]]
