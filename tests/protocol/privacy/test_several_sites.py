"""A patient who is at several sites: epsilon is never below what dp-accounting finds at best."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from dp_accounting.pld import privacy_loss_distribution
from scipy.special import ive
from scipy.stats import binom

from protocol.errors import Code, WardroundError
from protocol.privacy.accounting import Event, broken_epsilon, calibrate, epsilon
from protocol.privacy.calibration import with_noise
from protocol.privacy.releases import (
    assumption,
    bands,
    evaluation_event,
    planned_broken_epsilon,
    planned_events,
    spent_epsilon,
    training_event,
)
from protocol.study.study import Study
from tests.narrowing import present
from tests.protocol.query_document import asked
from tests.protocol.study_document import study

DELTA = 1e-5
SETTINGS = [(6.409, 0.2, 40), (1.5, 0.02, 40), (20.0, 0.5, 40), (8.0, 1.0, 10)]
LOCAL: dict[str, Any] = {"privacy__mode": "local", "optimisation": {"rounds": 20, "local_steps": 5}}
COARSE: dict[str, Any] = {"dimension": 31, "scale": 65536.0}
"""Heart disease's model, in the integers of the default configuration."""


def at_best(sigma: float, q: float, count: int, sites: int) -> float:
    """dp-accounting's optimistic estimate of `count` sums that one patient moves by 0 to `sites`
    clip norms."""
    times = np.arange(sites + 1)
    one = privacy_loss_distribution.from_mixture_gaussian_mechanism(
        sigma,
        times.astype(float).tolist(),
        binom.pmf(times, sites, q).tolist(),
        pessimistic_estimate=False,
        value_discretization_interval=1e-3,
        use_connect_dots=False,
    )
    return float(one.self_compose(count).get_epsilon_for_delta(DELTA))


@pytest.mark.slow
@pytest.mark.parametrize("sites", [1, 2, 3])
@pytest.mark.parametrize(("sigma", "q", "count"), SETTINGS)
def test_gaussian_sums_cost_what_the_mixture_costs_and_little_more(
    sigma: float, q: float, count: int, sites: int
) -> None:
    least = at_best(sigma, q, count, sites)
    found = epsilon([Event("gaussian", sigma, q, count, sites_per_patient=sites)], DELTA)
    assert least <= found <= 1.06 * least


@pytest.mark.slow
@pytest.mark.parametrize("sites", [1, 2, 3])
@pytest.mark.parametrize("rounding", ["patient", "site"])
@pytest.mark.parametrize(("sigma", "q", "count"), SETTINGS)
def test_skellam_sums_cost_more_than_the_mixture_with_rounding_and_slack_at_each_site(
    sigma: float, q: float, count: int, rounding: Any, sites: int
) -> None:
    slack = {"patient": 0.0, "site": 0.004}[rounding]
    event = Event(
        "skellam",
        sigma,
        q,
        count,
        rounding=rounding,
        slack=slack,
        sites_per_patient=sites,
        **COARSE,
    )
    moved = event.sensitivity.l2 / event.scale
    assert moved > 1 + slack
    assert at_best(sigma / moved, q, count, sites) <= epsilon([event], DELTA)
    assert epsilon([event], DELTA) <= 1.16 * at_best(sigma, q, count, sites)


@pytest.mark.slow
@pytest.mark.parametrize("sites", [2, 3])
@pytest.mark.parametrize("q", [0.3, 1.0])
def test_reported_epsilon_covers_the_exact_law_of_several_sites(q: float, sites: int) -> None:
    """The hockey-stick divergences of coarse Skellam sums in one dimension, both ways."""
    event = Event("skellam", 2.0, q, dimension=1, scale=4, rounding="none", sites_per_patient=sites)
    x = np.arange(-300, 301)
    chances = binom.pmf(np.arange(sites + 1), sites, q)
    without = ive(np.abs(x), event.variance)
    moved = [ive(np.abs(x - 4 * times), event.variance) for times in range(sites + 1)]
    within = np.tensordot(chances, np.array(moved), 1)
    for delta in (1e-2, 1e-4):
        reported = epsilon([event], delta)
        for p, r in ((within, without), (without, within)):
            assert np.maximum(p - math.exp(reported) * r, 0).sum() <= delta


def test_where_the_renyi_bound_stands_alone_it_is_above_the_mixture() -> None:
    """Above 500,000 releases nothing is composed."""
    many = Event("gaussian", 300.0, 0.01, 600_000, sites_per_patient=3)
    assert epsilon([many], DELTA) > epsilon([replace(many, count=500_000)], DELTA)


def test_pure_releases_cost_k_times() -> None:
    one = Event("laplace", 4.0, dimension=3, scale=8.0, rounding="none")
    assert epsilon([replace(one, sites_per_patient=3)], 1e-12) == pytest.approx(0.75, rel=1e-9)
    with pytest.raises(WardroundError, match="sites_per_patient"):
        replace(one, sites_per_patient=0)


def test_whoever_sees_each_share_sees_a_patient_k_times() -> None:
    event = Event("skellam", 6.409, 0.2, 150, sites_per_patient=2, **COARSE)
    alone = replace(
        event, noise_multiplier=6.409 / math.sqrt(3), count=300, sites_per_patient=1, shared=False
    )
    assert broken_epsilon([event], 1e-3, sites=4, colluding_sites=1) == epsilon([alone], 1e-3)


# Studies


def at_two_sites(**changes: Any) -> Study:
    return study(privacy__sites_per_patient=2, **changes)


def test_training_and_evaluation_add_up_where_each_site_splits_by_itself() -> None:
    assert bands(at_two_sites()) == ((0.0, 1.0), (0.0, 1.0))
    events = planned_events(at_two_sites())
    assert all(event.sites_per_patient == 2 for event in events)
    spent = present(spent_epsilon(at_two_sites(), 24, 24))
    assert spent == pytest.approx(epsilon(events, 1e-3))
    assert spent > present(spent_epsilon(study(), 24, 24))


def test_where_each_site_has_all_the_noise_a_patient_is_in_k_releases() -> None:
    once, twice = (planned_events(study(privacy__sites_per_patient=k, **LOCAL)) for k in (1, 2))
    assert [event.count for event in twice] == [2 * event.count for event in once]
    assert all(event.sites_per_patient == 1 for event in twice)


def test_without_masks_and_if_masks_broke_a_patient_counts_k_times() -> None:
    seen = planned_events(at_two_sites(aggregation__masked=False))
    planned = planned_events(at_two_sites())
    assert [event.count for event in seen] == [2 * event.count for event in planned]
    assert all(event.sites_per_patient == 1 and not event.shared for event in seen)
    assert planned_broken_epsilon(at_two_sites(), 1e-3) > planned_broken_epsilon(study(), 1e-3)


@pytest.mark.slow
def test_noise_is_calibrated_for_k_sites() -> None:
    claimed = with_noise(at_two_sites(evaluation__split="column"), 2.0)
    assert present(spent_epsilon(claimed, 24, 24)) <= 2.0
    assert planned_events(claimed) == planned_events(with_noise(at_two_sites(), 2.0))
    event = Event("gaussian", 1.0, 1.0, 4)
    two = replace(event, sites_per_patient=2)
    assert calibrate(1.0, DELTA, two) == pytest.approx(2 * calibrate(1.0, DELTA, event), rel=1e-3)


def test_a_query_costs_k_times() -> None:
    once = present(evaluation_event(asked()))
    plan = asked().model_copy(
        update={"privacy": asked().privacy.model_copy(update={"sites_per_patient": 2})}
    )
    assert present(evaluation_event(plan)).epsilon == 2 * once.epsilon
    assert training_event(plan) is None


def test_a_study_says_what_it_assumes_and_is_written_as_before_without_it() -> None:
    assert "no more than 2 of the sites" in assumption(at_two_sites())
    assert b"sites_per_patient" not in study().document
    assert Study.parse(at_two_sites().document).privacy.sites_per_patient == 2
    wrong = at_two_sites().document.replace(b'"sites_per_patient":2', b'"sites_per_patient":99')
    with pytest.raises(WardroundError, match="sites_per_patient is above") as refused:
        Study.parse(wrong)
    assert refused.value.code is Code.REFUSED_STUDY
