"""Epsilon is never optimistic, against other accountants, exact laws and published numbers."""

import math
import random
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import mpmath
import numpy as np
import pytest
from dp_accounting.rdp.rdp_privacy_accountant import compute_epsilon
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants import PRVAccountant
from scipy.special import ive, logsumexp
from scipy.stats import norm

from protocol.errors import Code, WardroundError
from protocol.privacy import renyi
from protocol.privacy.accounting import (
    KAPPA,
    Event,
    broken_epsilon,
    calibrate,
    epsilon,
    epsilon_over_bands,
    recommended_scale,
)
from protocol.privacy.events import MIN_VARIANCE
from protocol.secagg.fixed_point import Rounding, Sensitivity, sensitivity

HEART = Event("gaussian", 6.409, 0.2, 150)


def gaussian(sigma: float, q: float = 1.0, count: int = 1, **rest: Any) -> Event:
    return Event("gaussian", sigma, q, count, **rest)


def skellam(sigma: float, q: float = 1.0, count: int = 1, **rest: Any) -> Event:
    fields: dict[str, Any] = {"dimension": 14, "scale": 2**16} | rest
    return Event("skellam", sigma, q, count, **fields)


def exact_gaussian(mu: float, delta: float) -> float:
    """Epsilon of one Gaussian release with sensitivity / sigma = mu (Balle, Wang 2018, thm 8)."""
    low, high = 0.0, 200.0
    for _ in range(100):
        e = (low + high) / 2
        reached = norm.cdf(mu / 2 - e / mu) - math.exp(e) * norm.cdf(-mu / 2 - e / mu)
        low, high = (e, high) if reached > delta else (low, e)
    return high


@pytest.mark.parametrize("delta", [1e-3, 1e-5, 1e-8])
@pytest.mark.parametrize(("sigma", "count"), [(1.0, 1), (4.0, 1), (2.0, 10), (30.0, 150), (8.0, 3)])
def test_unsampled_gaussians_match_the_closed_form_from_above(
    sigma: float, count: int, delta: float
) -> None:
    exact = exact_gaussian(math.sqrt(count) / sigma, delta)
    found = epsilon([gaussian(sigma, 1.0, count)], delta)
    assert exact <= found <= exact * 1.002 + 1e-3


@pytest.mark.parametrize(
    ("history", "delta"),
    [
        ([(1.0, 0.01, 1000)], 1e-5),
        ([(6.409, 0.2, 150)], 1e-3),
        ([(42.7, 0.2, 150)], 1e-3),
        ([(1.5, 0.1, 300)], 1e-5),
        ([(1.2, 0.02, 500), (4.0, 0.2, 50), (10.0, 1.0, 3)], 1e-5),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning:opacus", "ignore::RuntimeWarning:opacus")
def test_agreement_with_opacus_prv(history: list[tuple[float, float, int]], delta: float) -> None:
    accountant = PRVAccountant()
    accountant.history = list(history)
    ours = epsilon([gaussian(*segment) for segment in history], delta)
    assert abs(accountant.get_epsilon(delta=delta) - ours) <= 0.02


def test_published_numbers() -> None:
    """Abadi et al. 2016, section 3.2: q .01, sigma 4, 10,000 steps, delta 1e-5 has epsilon 1.26 by
    moments. The notes' heart study: epsilon 1 at delta 1e-3 takes sigma 6.409."""
    assert 0.9 < epsilon([gaussian(4.0, 0.01, 10_000)], 1e-5) < 1.26
    assert calibrate(1.0, 1e-3, HEART) == 6.409


def test_ten_rounds_compose() -> None:
    """Wherever the events stand; a fresh accountant each round would claim one round's epsilon."""
    one = gaussian(1.0, 0.1, 30)
    ten = epsilon([one] * 10, 1e-5)
    assert ten == epsilon([replace(one, count=300)], 1e-5)
    assert ten > 2.4 * epsilon([one], 1e-5)
    other = gaussian(3.0, 0.5, 4)
    assert epsilon([one, other] * 10, 1e-5) == epsilon([other] * 10 + [one] * 10, 1e-5)


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_more_releases_less_noise_or_more_sampling_never_lower_epsilon(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from([gaussian, skellam]))
    sigma = data.draw(st.floats(0.7, 30))
    q = data.draw(st.sampled_from([0.01, 0.1, 0.5, 1.0]))
    count = data.draw(st.integers(1, 200))
    delta = data.draw(st.sampled_from([1e-3, 1e-6]))
    base = epsilon([kind(sigma, q, count)], delta)
    slack = 1 - 2e-3  # discretisation
    assert epsilon([kind(sigma, q, 2 * count)], delta) >= base * slack
    assert epsilon([kind(sigma / 1.2, q, count)], delta) >= base * slack
    assert epsilon([kind(sigma, min(1.0, 1.5 * q), count)], delta) >= base * slack
    assert epsilon([kind(sigma, q, count), gaussian(20.0)], delta) >= base * slack
    assert epsilon([kind(sigma, q, count)], delta / 10) >= base * slack


@pytest.mark.slow
def test_500_events_of_20_studies_take_seconds_of_the_processor() -> None:
    """Its own time, which others on the machine do not use up."""
    epsilon([gaussian(1.0)], 1e-5)  # imports the engine
    draw = random.Random(1)
    events = []
    for _ in range(20):
        sigma, q = draw.uniform(3, 30), draw.choice([0.05, 0.1, 0.2])
        events += [gaussian(sigma, q, draw.randint(1, 10)) for _ in range(23)]
        events += [gaussian(draw.uniform(10, 30)), gaussian(draw.uniform(10, 30))]
    draw.shuffle(events)
    start = time.process_time()
    found = epsilon(events, 1e-5)
    assert time.process_time() - start < 10.0
    rdp = renyi.epsilon(
        np.sum(
            [
                e.count * renyi.subsampled(renyi.gaussian(e.noise_multiplier), e.sampling_rate)
                for e in events
            ],
            axis=0,
        ),
        1e-5,
    )
    assert 0.8 * rdp < found < rdp


def test_nothing_released_costs_nothing() -> None:
    assert epsilon([], 1e-5) == 0
    assert epsilon([gaussian(1.0, 1.0, 0)], 1e-5) == 0
    assert epsilon_over_bands([], 1e-5) == 0


def test_bands_compose_in_parallel_across_and_in_sequence_within() -> None:
    train = gaussian(2.0, 0.1, 100, band=(0.0, 0.7), names="a")
    test = gaussian(3.0, band=(0.7, 1.0), names="a")
    both = gaussian(5.0, band=(0.5, 0.9), names="a")
    apart = epsilon_over_bands([train, test], 1e-5)
    assert apart == max(epsilon([train], 1e-5), epsilon([test], 1e-5))
    together = epsilon_over_bands([train, test, both], 1e-5)
    assert together == max(epsilon([train, both], 1e-5), epsilon([test, both], 1e-5))
    assert apart < together < epsilon([train, test, both], 1e-5)
    assert epsilon_over_bands([train], 1e-5) == epsilon([train], 1e-5)


def test_bands_by_names_that_are_not_certainly_the_same_hold_nobody_apart() -> None:
    train = gaussian(2.0, 0.1, 100, band=(0.0, 0.7))
    test = gaussian(3.0, band=(0.7, 1.0))
    both = epsilon([train, test], 1e-5)
    for one, other in (("", ""), ("a", ""), ("", "a"), ("a", "b")):
        events = [replace(train, names=one), replace(test, names=other)]
        assert epsilon_over_bands(events, 1e-5) == both, (one, other)


def test_a_patient_stands_in_one_band_of_each_kind_of_names() -> None:
    """Under each name in one of two cells, and nobody knows which go together."""
    costly = [gaussian(2.0, 0.1, 100, band=(0.0, 0.7), names=names) for names in "ab"]
    cheap = [gaussian(3.0, band=(0.7, 1.0), names=names) for names in "ab"]
    anybody = gaussian(9.0)
    found = epsilon_over_bands([*costly, *cheap, anybody], 1e-5)
    assert found == epsilon([*costly, anybody], 1e-5)


def test_too_many_kinds_of_names_count_as_uncertain() -> None:
    """Each different, so that no two combinations are alike."""
    events = []
    for number in range(6):
        names = f"view {number}"
        events.append(gaussian(8.0 + number, band=(0.0, 0.5), names=names))
        events.append(gaussian(8.5 + number, band=(0.5, 1.0), names=names))
    found = epsilon_over_bands(events, 1e-5)
    assert epsilon(events[::2], 1e-5) < found <= epsilon(events, 1e-5)


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(
    target=st.sampled_from([0.1, 0.5, 1.0, 3.0, 8.0]),
    delta=st.sampled_from([1e-3, 1e-5]),
    q=st.sampled_from([0.05, 0.2, 1.0]),
    count=st.sampled_from([1, 20, 150]),
    kind=st.sampled_from([gaussian, skellam]),
)
def test_calibration_never_exceeds_the_epsilon_asked_and_wastes_little(
    target: float, delta: float, q: float, count: int, kind: type
) -> None:
    event = kind(1.0, q, count)
    sigma = calibrate(target, delta, event)
    assert epsilon([replace(event, noise_multiplier=sigma)], delta) <= target
    assert epsilon([replace(event, noise_multiplier=sigma * 0.996)], delta) > target
    assert sigma == float(f"{sigma:.4g}")


def test_calibration_counts_what_else_is_released() -> None:
    train = gaussian(1.0, 0.2, 150, band=(0.0, 0.7), names="a")
    evaluation = gaussian(20.0, 1.0, 3, band=(0.0, 1.0))
    sigma = calibrate(1.0, 1e-3, train, [evaluation])
    assert sigma > calibrate(1.0, 1e-3, train)
    assert epsilon_over_bands([replace(train, noise_multiplier=sigma), evaluation], 1e-3) <= 1.0
    elsewhere = replace(evaluation, band=(0.7, 1.0), names="a")
    assert calibrate(1.0, 1e-3, train, [elsewhere]) == calibrate(1.0, 1e-3, train)
    with pytest.raises(WardroundError) as refusal:
        calibrate(0.1, 1e-3, train, [evaluation])
    assert refusal.value.code is Code.EPSILON_UNREACHABLE
    assert refusal.value.remedy


def test_one_share_alone_protects_less() -> None:
    intact = skellam(6.409, 0.2, 150)
    broken = broken_epsilon([intact], 1e-3, sites=4, colluding_sites=1)
    alone = replace(intact, noise_multiplier=6.409 / math.sqrt(3))
    assert broken == epsilon([alone], 1e-3) > epsilon([intact], 1e-3)
    own = replace(intact, shared=False)
    assert broken_epsilon([own], 1e-3, sites=4, colluding_sites=1) == epsilon([own], 1e-3)
    local = gaussian(6.409, 0.2, 150)
    assert broken_epsilon([local], 1e-3, sites=4, colluding_sites=1) == epsilon([local], 1e-3)
    coarse = skellam(2.0, scale=1)
    assert broken_epsilon([coarse], 1e-3, sites=50, colluding_sites=1) == math.inf
    with pytest.raises(WardroundError):
        broken_epsilon([intact], 1e-3, sites=4, colluding_sites=4)


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "change",
    [
        *({"noise_multiplier": value} for value in (0.0, -1.0, NAN, INF)),
        *({"sampling_rate": value} for value in (0.0, -0.1, 1.01, NAN)),
        *({"count": value} for value in (-1, 1.5)),
        *(
            {"band": value}
            for value in ((0.5, 0.5), (-0.1, 1.0), (0.0, 1.1), (NAN, 1.0), (0.9, 0.1))
        ),
        {"mechanism": "laplace"},
        {"dimension": 0},
        *({"scale": value} for value in (0.0, 0.5, -1.0, NAN, INF)),
        {"slack": -0.1},
        {"slack": NAN},
        {"rounding": "up"},
        {"noise_multiplier": 1e-6},
        {"noise_multiplier": 1e300, "scale": 1e300},
    ],
)
def test_hostile_numbers_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(WardroundError) as refusal:
        replace(skellam(1.0), **change)
    assert refusal.value.code is Code.CONFIGURATION


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, 2.0, NAN])
def test_a_delta_that_is_no_probability_is_refused(delta: float) -> None:
    calls: list[Callable[[], object]] = [
        lambda: epsilon([HEART], delta),
        lambda: epsilon_over_bands([], delta),
        lambda: calibrate(1.0, delta, HEART),
    ]
    for call in calls:
        with pytest.raises(WardroundError):
            call()
    for target in (0.0, -1.0, NAN, INF):
        with pytest.raises(WardroundError):
            calibrate(target, 1e-5, HEART)


def test_extremes_have_an_answer_and_it_is_not_small_by_accident() -> None:
    assert epsilon([gaussian(1e-200)], 1e-5) == INF
    assert epsilon([gaussian(0.01, 1.0, 1000)], 1e-5) > 1e6
    assert epsilon([gaussian(1.0, 1.0, 10**9)], 1e-5) > 1e8
    assert 0 <= epsilon([gaussian(1e6)], 1e-5) < 0.01
    assert epsilon([gaussian(1.0, 1e-7, 400_000)], 1e-6) < 0.05
    assert epsilon([gaussian(1.0)], 1e-300) > 30


def test_a_hostile_number_of_releases_is_bounded() -> None:
    """Composing 2 * 10^10 releases would take hours: the Renyi bound answers, from above."""
    many = epsilon([gaussian(1.0, 1e-7, 2 * 10**10)], 1e-6)
    assert many > epsilon([gaussian(1.0, 1e-7, 400_000)], 1e-6)


# Skellam noise


@pytest.mark.parametrize("variance", [MIN_VARIANCE, 1.7, 3.0, 9.0, 50.0, 400.0])
def test_kappa_bounds_the_divergence_from_the_rounded_gaussian(variance: float) -> None:
    with mpmath.workdps(40):
        mu = mpmath.mpf(variance)
        deviation = mpmath.sqrt(2 * (mu - mpmath.mpf(1) / 12))
        total = mpmath.mpf(0)
        for k in range(-int(14 * variance**0.5) - 20, int(14 * variance**0.5) + 21):
            a = abs(k)
            p = mpmath.exp(-mu) * mpmath.besseli(a, mu)
            q = (mpmath.erfc((a - 0.5) / deviation) - mpmath.erfc((a + 0.5) / deviation)) / 2
            total += p * mpmath.log(p / q)
        assert 0 < total * mu**2 < 1 / 48 < KAPPA


def test_kappa_holds_between_and_beyond_the_variances_tried() -> None:
    """mu^2 times the divergence stays below 1/48, its limit, which it approaches from below."""
    k = np.arange(-400, 401)
    scaled = []
    for variance in np.geomspace(MIN_VARIANCE, 300, 40):
        p = ive(np.abs(k), variance)
        deviation = math.sqrt(variance - 1 / 12)
        a = np.abs(k)
        q = norm.sf((a - 0.5) / deviation) - norm.sf((a + 0.5) / deviation)
        seen = (p > 1e-290) & (q > 1e-290)
        scaled.append(variance**2 * float((p[seen] * np.log(p[seen] / q[seen])).sum()))
    assert max(scaled) < 1 / 48
    assert all(after > before for before, after in pairwise(scaled[10:]))


@pytest.mark.parametrize("variance", [1.0, 4.0, 25.0, 1000.0])
@pytest.mark.parametrize("shift", [1, 2, 5])
def test_the_renyi_bound_holds_in_one_dimension_and_is_close(variance: float, shift: int) -> None:
    reach = int(40 * math.sqrt(variance) + 60 * shift + 600)
    x = np.arange(-reach, reach + 1)
    with np.errstate(divide="ignore"):
        moved, still = (np.log(ive(np.abs(x - s), variance)) for s in (shift, 0))
    bound = renyi.skellam(Sensitivity(l1=shift, l2=shift), variance)
    for order in (2, 3, 8, 32):
        both = np.isfinite(moved) & np.isfinite(still)
        exact = logsumexp(order * moved[both] - (order - 1) * still[both]) / (order - 1)
        limit = float(bound(np.array([float(order)]))[0])
        assert exact <= limit * (1 + 1e-9)
        if variance == 1000.0:
            assert limit <= exact * 1.05


def test_the_renyi_bound_of_skellam_noise_is_the_papers() -> None:
    """Agarwal, Kairouz and Liu 2021, corollary 3.6, with a pencil; in many dimensions the second
    term is what Skellam noise costs beyond Gaussian noise. Delta2 10, Delta1 30, order 4."""
    moved, order = Sensitivity(l1=30, l2=10), np.array([4.0])
    assert renyi.skellam(moved, 50.0)(order)[0] == pytest.approx(4 + (700 + 180) / 10_000)
    assert renyi.skellam(moved, 1.0)(order)[0] == pytest.approx(200 + 45)


@pytest.mark.parametrize("q", [1.0, 0.2])
@pytest.mark.parametrize(("sigma", "scale", "count"), [(1.0, 4, 2), (4.0, 4, 2), (1.0, 64, 1)])
def test_reported_epsilon_covers_the_exact_law_in_one_dimension(
    q: float, sigma: float, scale: int, count: int
) -> None:
    """The hockey-stick divergences of the exact laws, both ways; once, and composed twice."""
    event = skellam(sigma, q, count, dimension=1, scale=scale, rounding="none")
    variance = event.variance
    reach = int(14 * math.sqrt(variance) + 2 * scale + 40)
    x = np.arange(-reach, reach + 1)
    without = ive(np.abs(x), variance)
    within = (1 - q) * without + q * ive(np.abs(x - scale), variance)
    for delta in (1e-2, 1e-4, 1e-6):
        reported = epsilon([event], delta)
        assert reported < INF
        for p, r in ((within, without), (without, within)):
            if count == 2:
                p, r = np.multiply.outer(p, p), np.multiply.outer(r, r)
            assert np.maximum(p - math.exp(reported) * r, 0).sum() <= delta


@pytest.mark.parametrize("rounding", ["none", "patient", "site"])
@pytest.mark.parametrize(
    ("dimension", "sigma", "q", "count", "delta"),
    [
        (14, 42.7, 0.2, 150, 1e-3),
        (14, 6.409, 0.2, 150, 1e-3),
        (31, 3.0, 0.1, 300, 1e-5),
        (1000, 1.0, 0.01, 1000, 1e-5),
        (10**6, 1.0, 0.01, 1000, 1e-5),
        (11 * 10**6, 2.0, 0.05, 500, 1e-6),
        (64, 20.0, 1.0, 5, 1e-5),
    ],
)
def test_at_the_recommended_scale_skellam_costs_under_one_percent(
    dimension: int, sigma: float, q: float, count: int, delta: float, rounding: Rounding
) -> None:
    limit = epsilon([gaussian(sigma, q, count)], delta)
    scale = recommended_scale(
        dimension,
        rounding=rounding,
        epsilon=limit,
        delta=delta,
        attempts=count,
        noise_multiplier=sigma,
    )
    event = skellam(sigma, q, count, dimension=dimension, scale=scale, rounding=rounding)
    assert limit <= epsilon([event], delta) < 1.01 * limit
    assert scale == 2 ** round(math.log2(scale))


def test_coarse_integers_cost_epsilon_and_are_charged() -> None:
    fine = epsilon([skellam(6.409, 0.2, 150)], 1e-3)
    coarse = epsilon([skellam(6.409, 0.2, 150, scale=16)], 1e-3)
    assert coarse > 1.05 * fine
    assert epsilon([skellam(6.409, 0.2, 150, scale=16, slack=0.1)], 1e-3) > coarse
    assert sensitivity(16, 14, "patient").l2 > 1.1 * 16


def test_the_gap_between_skellam_and_gaussian_is_charged() -> None:
    """A million coordinates in coarse integers: no rounding, but a distribution that differs."""
    limit = epsilon([gaussian(1.0, 0.01, 1000)], 1e-5)
    near = skellam(1.0, 0.01, 1000, dimension=10**6, scale=2**18, rounding="none")
    far = replace(near, scale=2**15)
    assert limit < epsilon([near], 1e-5) < 1.01 * limit
    assert epsilon([far], 1e-5) > 1.1 * limit


def test_renyi_agrees_with_dp_accounting() -> None:
    for sigma, q, count in ((1.0, 0.01, 1000), (6.409, 0.2, 150), (3.0, 1.0, 5)):
        divergences = count * renyi.subsampled(renyi.gaussian(sigma), q)
        ours = renyi.epsilon(divergences, 1e-5)
        theirs, _ = compute_epsilon(renyi.ORDERS, divergences, 1e-5)
        assert ours == pytest.approx(theirs, rel=1e-6)
        assert ours >= epsilon([gaussian(sigma, q, count)], 1e-5)


def test_divergences_that_overflowed_bound_nothing() -> None:
    """`max(0.0, nan)` is 0.0 in Python: epsilon 0 for no privacy at all."""
    nothing = np.full(len(renyi.ORDERS), np.nan)
    assert renyi.epsilon(nothing, 1e-5) == math.inf
    some = nothing.copy()
    some[3] = 1.0
    assert 1.0 < renyi.epsilon(some, 1e-5) < math.inf


def test_bands_that_cannot_decide_change_nothing() -> None:
    small = Event("gaussian", 8.0, 0.2, 10, band=(0.0, 0.7), names="a")
    large = Event("gaussian", 1.0, 0.2, 50, band=(0.7, 1.0), names="a")
    assert epsilon_over_bands([small, large], 1e-5) == epsilon([large], 1e-5)
