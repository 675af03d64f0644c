"""Many different events are composed in a tree whose nodes are kept: never below the truth, and
the same number whatever was kept before."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from dp_accounting.pld import pld_pmf, privacy_loss_distribution
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from protocol.privacy import accounting, privacy_losses
from protocol.privacy.accounting import Event, epsilon_over_bands, keys_in_use
from protocol.privacy.composition_cache import (
    TOGETHER,
    RecentlyUsed,
    blocks,
    code_digest,
    halves,
    key_of,
)

DELTA = 1e-5


def different(count: int, seed: int = 0) -> list[Event]:
    """Events no two of which are of one kind, on three bands."""
    drawn = random.Random(seed)
    bands = [(0.0, 0.7), (0.7, 1.0), (0.0, 1.0)]
    events = []
    for _ in range(count):
        multiplier, band = drawn.uniform(20, 60), drawn.choice(bands)
        if drawn.random() < 0.5:
            events.append(Event("gaussian", multiplier, 0.2, drawn.randint(1, 9), band=band))
        else:
            skellam: dict[str, Any] = {"dimension": 31, "scale": 65536.0, "band": band}
            events.append(Event("skellam", multiplier, 0.1, drawn.randint(1, 9), **skellam))
    return events


def afresh(events: list[Event], delta: float = DELTA) -> float:
    return epsilon_over_bands(events, delta, RecentlyUsed())


def test_many_gaussians_match_the_closed_form_from_above() -> None:
    sigmas = [30 + 0.3 * number for number in range(100)]
    mu = math.sqrt(sum(1 / sigma**2 for sigma in sigmas))
    low, high = 0.0, 50.0
    for _ in range(100):  # Balle and Wang 2018, theorem 8
        middle = (low + high) / 2
        reached = norm.cdf(mu / 2 - middle / mu) - math.exp(middle) * norm.cdf(
            -mu / 2 - middle / mu
        )
        low, high = (middle, high) if reached > DELTA else (low, middle)
    assert high <= afresh([Event("gaussian", sigma) for sigma in sigmas]) <= 1.002 * high


@pytest.mark.slow
def test_the_tree_is_as_tight_as_one_block_and_not_optimistic() -> None:
    events = tuple(sorted((replace(e, band=(0.0, 1.0)) for e in different(40)), key=repr))
    rough, _ = accounting._renyi_bound(events, DELTA, RecentlyUsed())
    interval = 2.0 ** math.floor(math.log2(rough / 1500))
    flat = accounting._losses(tuple(accounting._part(event) for event in events), interval)
    optimistic: Any = None
    for part in (accounting._part(event) for event in events):
        one = privacy_loss_distribution.from_gaussian_mechanism(
            part.parameter,
            value_discretization_interval=interval,
            sampling_prob=part.sampling_rate,
            pessimistic_estimate=False,
        ).self_compose(part.count)
        optimistic = one if optimistic is None else optimistic.compose(one)
    tree = accounting._all_losses(events, DELTA, RecentlyUsed())
    for delta in (1e-3, DELTA, 1e-8):
        found = tree.get_epsilon_for_delta(delta)
        assert optimistic.get_epsilon_for_delta(delta) <= found
        assert found == pytest.approx(flat.get_epsilon_for_delta(delta), rel=1e-3)


@pytest.mark.slow
@settings(max_examples=2, deadline=None)
@given(st.integers(0, 2**32), st.integers(TOGETHER + 1, 40))
def test_what_was_kept_before_changes_no_number(seed: int, count: int) -> None:
    kept, drawn = RecentlyUsed(), random.Random(seed)
    events = different(count, seed)
    for _ in range(4):
        change, place = drawn.choice(["more", "fewer", "another count"]), drawn.randrange(count)
        if change == "more":
            events.append(different(1, drawn.randrange(2**32))[0])
        elif change == "fewer":
            events.pop(place % len(events))
        else:
            event = events[place % len(events)]
            events[place % len(events)] = replace(event, count=event.count + 1)
        drawn.shuffle(events)
        assert epsilon_over_bands(events, DELTA, kept) == afresh(events)


def test_one_more_event_never_costs_less() -> None:
    kept, events = RecentlyUsed(), different(2 * TOGETHER)
    before = epsilon_over_bands(events, DELTA, kept)
    for extra in different(6, seed=5):
        events.append(replace(extra, band=(0.0, 1.0)))
        now = epsilon_over_bands(events, DELTA, kept)
        assert now > before
        before = now


class Counted(RecentlyUsed):
    """Counts what is put."""

    puts = 0

    def put(self, key: bytes, value: bytes) -> None:
        self.puts += 1
        super().put(key, value)


@pytest.mark.slow
def test_one_more_event_changes_the_nodes_above_it_alone() -> None:
    events = [replace(event, band=(0.0, 1.0)) for event in different(100)]
    kept = Counted()
    epsilon_over_bands(events, DELTA, kept)
    at_first, kept.puts = kept.puts, 0
    epsilon_over_bands([*events, Event("gaussian", 77.0, 0.2)], DELTA, kept)
    assert at_first > 3 * kept.puts


def test_a_key_covers_whatever_the_number_depends_on() -> None:
    (event,) = different(1)
    others = [
        key_of("epsilon", [replace(event, count=event.count + 1)], DELTA),
        key_of("epsilon", [replace(event, band=(0.0, 0.5))], DELTA),
        key_of("epsilon", [event, event], DELTA),
        key_of("epsilon", [], DELTA),
        key_of("epsilon", [event], 2 * DELTA),
        key_of("losses", [event], DELTA),
    ]
    assert len({*others, key_of("epsilon", [event], DELTA)}) == 7
    two = different(2)
    assert key_of("epsilon", two, DELTA) == key_of("epsilon", two[::-1], DELTA)
    assert len(code_digest()) == 32


def test_halves_are_decided_by_the_kinds_alone() -> None:
    events = tuple(different(64))
    low, high = halves(events)
    assert sorted(map(repr, low + high)) == sorted(map(repr, events))
    assert low
    assert high
    counted = tuple(replace(event, count=99) for event in events)
    assert halves(counted)[0] == tuple(replace(event, count=99) for event in low)
    assert halves(events[::-1])[0] == low[::-1]
    assert sum(len(block) for block in blocks(events) if len(block) <= TOGETHER) == 64


def test_everything_that_is_kept_is_in_use() -> None:
    kept = RecentlyUsed()
    events = [replace(event, band=(0.0, 1.0)) for event in different(50)]
    epsilon_over_bands(events, DELTA, kept)
    assert set(kept._values) == keys_in_use(events, DELTA)


def test_recent_memory_is_bounded_and_forgets_the_oldest() -> None:
    kept = RecentlyUsed()
    kept.put(b"first", bytes(2**20))
    kept.put(b"used", b"yes")
    for number in range(40):
        kept.put(b"%d" % number, bytes(2**20))
        assert kept.get(b"used") == b"yes"
    assert kept.get(b"first") is None
    assert kept.get(b"39") == bytes(2**20)
    assert kept._bytes <= 32 * 2**20


def distribution(masses: list[float], lowest: int, interval: float, infinite: float) -> Any:
    probs = np.array(masses) / (sum(masses) or 1.0) * (1 - infinite)
    pmf = pld_pmf.DensePLDPmf(interval, lowest, probs, infinite, True)
    mirrored = pld_pmf.DensePLDPmf(interval, lowest + 1, probs[::-1].copy(), infinite, True)
    return privacy_loss_distribution.PrivacyLossDistribution(pmf, mirrored)


@given(
    st.lists(st.floats(1e-12, 1.0), min_size=1, max_size=30),
    st.integers(-40, 40),
    st.sampled_from([2, 4, 16]),
)
def test_a_coarser_distribution_dominates_alone_and_composed(
    masses: list[float], lowest: int, steps: int
) -> None:
    fine = distribution(masses, lowest, 0.125, 0.01)
    coarse = privacy_losses.coarser(fine, 0.125 * steps)
    other = distribution([0.2, 0.0, 0.8], -1, 0.125 * steps, 0.0)
    finer = distribution(
        [0.2, *[0.0] * (2 * steps - 1), 0.8], -steps, 0.125, 0.0
    )  # the same on the fine grid, but for where its mirror image lies
    pmfs = (fine._pmf_remove, coarse._pmf_remove), (fine._pmf_add, coarse._pmf_add)
    for before, after in pmfs:
        both = before.compose(finer._pmf_remove), after.compose(other._pmf_remove)
        for epsilon in np.arange(-8.0, 8.0, 0.125 / 2):
            exact, bound = (
                before.get_delta_for_epsilon(epsilon),
                after.get_delta_for_epsilon(epsilon),
            )
            assert bound >= exact - 1e-12
            if epsilon % (0.125 * steps) == 0:
                assert bound == pytest.approx(exact, abs=1e-12)
            composed = (pmf.get_delta_for_epsilon(epsilon) for pmf in both)
            assert next(composed) <= next(composed) + 1e-12


def test_a_distribution_is_read_as_it_was_written() -> None:
    gaussian = privacy_loss_distribution.from_gaussian_mechanism
    for sampled in (1.0, 0.2):
        losses = privacy_losses.dense(gaussian(3.0, sampling_prob=sampled).self_compose(3))
        text = privacy_losses.encode(losses)
        again = privacy_losses.decode(text)
        assert privacy_losses.encode(again) == text
        for delta in (1e-3, 1e-9):
            assert again.get_epsilon_for_delta(delta) == losses.get_epsilon_for_delta(delta)


MASSES = st.lists(st.just(0.0) | st.floats(1e-30, 1), min_size=1, max_size=30).filter(any)


@given(MASSES, MASSES, st.integers(-1000, 1000), st.floats(0, 0.5), st.floats(1e-12, 0.9))
def test_epsilon_is_what_dp_accounting_finds_one_loss_at_a_time(
    removed: list[float], added: list[float], lowest: int, infinite: float, above: float
) -> None:
    delta = infinite + (1 - infinite) * above

    def pmf(masses: list[float]) -> Any:
        shares = np.array(masses)
        shares *= (1 - infinite) / shares.sum()
        return pld_pmf.DensePLDPmf(0.5, lowest, shares, infinite, True)

    losses = privacy_loss_distribution.PrivacyLossDistribution(pmf(removed), pmf(added))
    theirs = losses.get_epsilon_for_delta(delta)
    assert privacy_losses.epsilon_of(losses)(delta) == pytest.approx(theirs, rel=1e-9, abs=1e-9)


def test_epsilon_of_losses_that_no_float_holds() -> None:
    """e^-l is 0 above 745 and infinite below -709, where dp-accounting overflows."""
    for lowest, known in ((2000, math.inf), (-2000, 0.0)):
        pmf = pld_pmf.DensePLDPmf(1.0, lowest, np.array([0.5, 0.5]), 0.0, True)
        losses = privacy_loss_distribution.PrivacyLossDistribution(pmf)
        assert privacy_losses.epsilon_of(losses)(1e-5) == known
    certain = pld_pmf.DensePLDPmf(1.0, 0, np.array([0.5]), 0.5, True)
    infinite = privacy_losses.epsilon_of(privacy_loss_distribution.PrivacyLossDistribution(certain))
    assert infinite(0.4) == math.inf
