"""Epsilons that were wrong elsewhere, as people reported them: the same settings, asked of ours."""

from __future__ import annotations

import math
from statistics import NormalDist

import pytest

from protocol.privacy.accounting import Event, calibrate, epsilon
from protocol.privacy.releases import planned_events
from tests.protocol.study_document import study


def steps(noise_multiplier: float, sampling_rate: float, count: int) -> Event:
    """DP-SGD."""
    return Event("gaussian", noise_multiplier, sampling_rate, count)


@pytest.mark.parametrize("delta", [0.1, 0.5, 0.9])
def test_no_epsilon_is_below_zero(delta: float) -> None:
    """Opacus 585, its pull request 844: negative at a large delta, in two of three accountants."""
    for noise in (10.0, 1000.0):
        assert epsilon([steps(noise, 0.01, 1)], delta) == 0


def test_epsilon_is_zero_only_where_delta_covers_all() -> None:
    """TensorFlow Privacy 166: 0 from an order near 1. It is 0 exactly where delta is at least the
    distance of the two distributions in total variation."""
    rate, noise = 105 / 100_000, 1.0
    apart = rate * (2 * NormalDist().cdf(1 / (2 * noise)) - 1)
    assert epsilon([steps(noise, rate, 1)], 1.01 * apart) < 1e-4
    assert epsilon([steps(noise, rate, 1)], 0.5 * apart) > 1e-4


def test_a_tiny_delta_gives_an_epsilon_that_makes_sense() -> None:
    """prv_accountant 17: between deltas of 1.10e-18 and 1.13e-18 it jumped from -.044 to 3.7. Not
    below the central limit's epsilon, not above that of few Renyi orders."""
    rate, noise, count = 0.00033, 4.0, 10_000
    limit = rate * math.sqrt(count * math.expm1(noise**-2))
    found = [epsilon([steps(noise, rate, count)], delta) for delta in (1.13e-18, 1.1e-18)]
    assert -limit * NormalDist().inv_cdf(1.2e-18) < found[0] <= found[1] < 0.669
    assert found[1] < 1.01 * found[0]


def test_a_large_epsilon_has_an_answer() -> None:
    """prv_accountant 36 and 42, Opacus 601: "Discrete mean differs from continuous mean"."""
    assert 38.145 <= epsilon([steps(1.0, 0.2, 500)], 1e-5) < 1.06 * 38.145  # dp-accounting 0.6


def test_the_central_limit_is_not_taken_for_the_truth() -> None:
    """Opacus 643: 1.83 by Gaussian differential privacy; dp-accounting's optimistic answer is
    1.958."""
    assert 1.958 <= epsilon([steps(3.0, 0.2, 50)], 1 / 48_000) < 1.06 * 1.958


@pytest.mark.parametrize(
    ("asked", "event"),
    [(1.0, steps(1.0, 1.0, 200)), (8.0, steps(1.0, 0.5, 100)), (30.0, steps(1.0, 0.05, 300))],
)
def test_noise_is_found_for_few_patients_and_for_loose_claims(asked: float, event: Event) -> None:
    """Opacus 74, 591 and 604: no answer at a rate of 1, or where an epsilon is large."""
    noise = calibrate(asked, 1e-5, event)
    reached = epsilon([steps(noise, event.sampling_rate, event.count)], 1e-5)
    assert 0.99 * asked < reached <= asked


def test_the_sampling_rate_is_the_studys_and_not_the_loaders() -> None:
    """Opacus 335 and 813: the rate, and with it epsilon, came from how many records a site has or
    how many a loader draws. What a study spends does not depend on its patients."""
    few, many = ([{"name": n, "patients": p} for n in ("a", "b", "c")] for p in (30, 30_000))
    assert planned_events(study(roster=few)) == planned_events(study(roster=many))


def test_a_patient_of_one_site_is_not_charged_for_every_site() -> None:
    """Flower 605: epsilons were added up over clients. A patient's does not grow with the sites."""
    three, thirty = (
        planned_events(study(roster=[{"name": f"s{k:02}", "patients": 100} for k in range(sites)]))
        for sites in (3, 30)
    )
    assert three == thirty
