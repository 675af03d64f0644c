"""Lower bounds on mechanisms whose noise is known: never above it beyond their error, and near."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from client.privacy_audit.bounds import (
    gaussian,
    many_runs,
    max_rate,
    min_rate,
    profile,
    refuted,
    shift,
)
from client.privacy_audit.finding import epsilon_at, with_shift
from client.privacy_audit.one_run import min_shift
from protocol.privacy.accounting import deltas, epsilon
from protocol.privacy.events import Event

ERROR = 0.05
AUDITS = 400
MOST_ALARMS = int(stats.binom.isf(1e-6, AUDITS, ERROR))


@given(st.integers(1, 500), st.data())
def test_rates_are_clopper_and_pearsons(runs: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, runs))
    low, high = min_rate(hits, runs, ERROR), max_rate(hits, runs, ERROR)
    assert low <= hits / runs <= high
    if hits:
        assert stats.binom.sf(hits - 1, runs, low) == pytest.approx(ERROR)
    if hits < runs:
        assert stats.binom.cdf(hits, runs, high) == pytest.approx(ERROR)


@given(st.floats(0.05, 4), st.floats(0.05, 1), st.floats(0.01, 0.99))
def test_the_best_test_shows_the_shift_that_there_is(mu: float, rate: float, false: float) -> None:
    place = stats.norm.isf(false)
    true = (1 - rate) * false + rate * stats.norm.sf(place - mu)
    assert shift(false, float(true), rate) == pytest.approx(mu, rel=1e-6, abs=1e-9)


def test_a_patient_who_is_sampled_more_often_than_claimed_is_explained_by_no_noise() -> None:
    assert shift(0.01, 0.5, 0.2) == math.inf
    assert shift(0.5, 0.4, 1.0) == 0.0


@pytest.mark.parametrize(("mu", "rate"), [(0.3, 1.0), (1.0, 1.0), (1.5, 0.2)])
def test_many_runs_are_seldom_above_the_truth_and_many_come_near(mu: float, rate: float) -> None:
    rng = np.random.default_rng(0)

    def bounds(runs: int, audits: int) -> list[float]:
        found = []
        for _ in range(audits):
            few = rng.normal(size=runs)
            more = rng.normal(size=runs) + mu * (rng.random(runs) < rate)
            false_hits, hits = (int((one > mu / 2).sum()) for one in (few, more))
            found.append(many_runs(false_hits, hits, runs, rate, ERROR))
        return found

    assert sum(bound > mu for bound in bounds(1000, AUDITS)) <= MOST_ALARMS
    assert min(bounds(1_000_000, 3)) > 0.9 * mu


@pytest.mark.parametrize("mu", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("side", [8, 2])
def test_one_run_is_seldom_above_the_truth(mu: float, side: int) -> None:
    rng, canaries, alarms = np.random.default_rng(1), 400, 0
    for _ in range(AUDITS):
        coins = rng.random(canaries) < 0.5
        order = np.argsort(rng.normal(size=canaries) + mu * coins)
        said = canaries // side
        right = int(coins[order[-said:]].sum() + (~coins[order[:said]]).sum())
        alarms += refuted(gaussian(mu), canaries, 2 * said, right, ERROR)
    assert alarms <= MOST_ALARMS


def test_one_run_that_finds_every_canary_refutes_a_private_mechanism() -> None:
    assert refuted(gaussian(0.5), 400, 100, 100)
    assert not refuted(gaussian(1.0), 400, 100, 50)
    event = Event("gaussian", 2.0, sampling_rate=0.5, count=10)
    assert min_shift(event, 400, 100, 50) == 0.0
    found = min_shift(event, 400, 100, 100)
    assert 0.5 < epsilon_at(found, event, 1e-5) < math.inf


@given(st.floats(0.01, 0.99))
def test_a_profile_is_a_trade_off_function_below_the_true_one(x: float) -> None:
    epsilons = np.linspace(0, 6, 200)
    event = Event("gaussian", 1.0)
    found = profile(epsilons, deltas([event], epsilons))(x)
    assert found <= gaussian(1.0)(x) + 1e-6
    assert found == pytest.approx(gaussian(1.0)(x), abs=0.01)


@pytest.mark.parametrize("count", [1, 7])
@pytest.mark.parametrize(
    "event",
    [
        Event("gaussian", 1.3, sampling_rate=0.3),
        Event("skellam", 1.3, sampling_rate=0.3, dimension=27, scale=2.0**16),
    ],
)
def test_the_privacy_profile_is_the_inverse_of_epsilon(event: Event, count: int) -> None:
    several = [event] * count
    at = epsilon(several, 1e-4)
    found = deltas(several, np.array([0.9 * at, at, 1.1 * at]))
    assert found[0] > 1e-4 > found[2]
    assert found[1] == pytest.approx(1e-4, rel=0.05)
    assert deltas([], np.array([0.0])).tolist() == [0.0]


def test_a_shift_is_an_event_of_as_much_noise() -> None:
    event = Event("skellam", 2.0, dimension=27, scale=2.0**16)
    mu = event.sensitivity.l2 / math.sqrt(event.variance - 1 / 12)
    assert epsilon_at(mu, event, 1e-5) == pytest.approx(epsilon([event], 1e-5), rel=1e-6)
    assert with_shift(event, math.inf) is None
    assert epsilon_at(math.inf, event, 1e-5) == math.inf
    assert epsilon_at(0.0, event, 1e-5) == 0.0
