"""Rounding: one patient moves the integers by no more than accounting says, and no sum wraps."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from protocol.errors import Code, WardroundError
from protocol.secagg.fixed_point import (
    AMPLITUDE_BITS,
    MAX_SCALE,
    SITE_PATIENTS,
    SITE_POSITIONS,
    SITE_SLACK,
    SITE_TERMS,
    WordBits,
    clip_and_round,
    clipped_sum_bits,
    max_sampled,
    round_sum,
    sensitivity,
    to_words,
    whole_words,
)

ANY_FLOAT = st.floats(width=32, allow_nan=True, allow_infinity=True)


@given(values=st.lists(st.integers(-(2**62), 2**62), min_size=1), bits=st.sampled_from([32, 64]))
def test_words_are_the_integers_mod_2_to_the_k(values: list[int], bits: WordBits) -> None:
    words = to_words(np.array(values, dtype=np.int64), bits)
    assert words.dtype == np.dtype(f"uint{bits}")
    assert [int(word) for word in words] == [value % 2**bits for value in values]


@settings(max_examples=200)
@given(
    patient=arrays.arrays(np.float32, st.integers(1, 40), elements=ANY_FLOAT),
    clip_norm=st.sampled_from([1e-3, 0.5, 1.0, 300.0]),
    scale=st.sampled_from([1, 3, 256, 2**16, 2**20, MAX_SCALE]),
)
def test_one_patient_moves_the_sum_within_the_sensitivity(
    patient: np.ndarray, clip_norm: float, scale: int
) -> None:
    """Whatever the gradient is: huge, subnormal, infinite, not a number."""
    moved = clip_and_round(patient[None, :], clip_norm, scale)
    bound = sensitivity(scale, len(patient), "patient")
    assert sum(int(v) ** 2 for v in moved) <= bound.l2**2
    assert sum(abs(int(v)) for v in moved) <= bound.l1 * (1 + 1e-12)


@settings(max_examples=100)
@given(data=st.data())
def test_the_sum_over_patients_is_exact_and_ignores_how_they_are_batched(
    data: st.DataObject,
) -> None:
    draw = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    rows = draw.normal(size=(data.draw(st.integers(0, 20)), 7)).astype(np.float32)
    whole = clip_and_round(rows, 1.0, 2**16)
    single = sum((clip_and_round(row[None], 1.0, 2**16) for row in rows), np.zeros(7, np.int64))
    assert (whole == single).all()


def test_blocks_of_rows_are_all_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(0).normal(size=(1000, 5)).astype(np.float32)
    whole = clip_and_round(rows, 1.0, 1000)
    monkeypatch.setattr("protocol.secagg.fixed_point._ROWS", 37)
    assert (clip_and_round(rows, 1.0, 1000) == whole).all()


def test_clipping_and_rounding_change_a_gradient_no_more_than_they_must() -> None:
    inside = np.array([[0.3, -0.4]])
    outside = np.array([[30.0, -40.0]])
    assert clip_and_round(inside, 1.0, 10_000).tolist() == [3000, -4000]
    assert clip_and_round(outside, 1.0, 10_000).tolist() == [6000, -8000]
    assert clip_and_round(outside.astype(np.float32), 50.0, 50).tolist() == [30, -40]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_patient_that_is_not_finite_counts_as_zero_and_spoils_nobody(bad: float) -> None:
    rows = np.array([[0.6, 0.0], [bad, 0.0], [0.0, 0.8]])
    assert clip_and_round(rows, 1.0, 1000).tolist() == [600, 800]
    assert round_sum(np.array([bad, 1.0]), 1.0, 1000).tolist()[1] == 1000


def test_no_patient_gives_zeros() -> None:
    assert clip_and_round(np.empty((0, 4), dtype=np.float32), 1.0, 1000).tolist() == [0] * 4


@settings(max_examples=200)
@given(data=st.data())
def test_neighbouring_site_sums_stay_within_the_sensitivity(data: st.DataObject) -> None:
    draw = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    patients, dimension = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 50))
    scale = data.draw(st.sampled_from([1, 16, 4096, 2**20]))
    rows = draw.normal(size=(patients, dimension)).astype(np.float32)
    rows /= np.maximum(np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True), 1e-9)
    one = round_sum(rows.sum(axis=0, dtype=np.float64), 1.0, scale)
    other = round_sum(rows[1:].sum(axis=0, dtype=np.float64), 1.0, scale)
    bound = sensitivity(scale, dimension, "site", SITE_SLACK)
    assert np.linalg.norm(one - other) <= bound.l2
    assert np.abs(one - other).sum() <= bound.l1 * (1 + 1e-12)


def test_sensitivities_follow_the_formulas() -> None:
    assert sensitivity(100, 16, "none").l2 == 100
    assert sensitivity(100, 16, "patient").l2 == 102
    assert sensitivity(100, 16, "site").l2 == 104
    assert sensitivity(100, 16, "site", 0.01).l2 == 105
    assert sensitivity(100, 16, "site").l1 == 4 * 104
    assert sensitivity(1, 10**6, "none").l1 == 1


@pytest.mark.parametrize(("clip_norm", "scale"), [(0.0, 10), (math.nan, 10), (1.0, 0), (1, 2**31)])
def test_a_scale_or_norm_that_cannot_be_is_refused(clip_norm: float, scale: int) -> None:
    with pytest.raises(WardroundError) as refusal:
        clip_and_round(np.zeros((1, 2)), clip_norm, scale)
    assert refusal.value.code is Code.CONFIGURATION


def test_the_slack_of_a_site_covers_what_float64_may_add() -> None:
    """`certified_sum` (client/training/clipping.py): 2 K n (m T + n / m + 8) u, most for m = 1."""
    for patients in (1, 100, SITE_PATIENTS):
        terms = SITE_TERMS // 2 + patients * (patients + 8)
        assert 2 * 2**AMPLITUDE_BITS * terms * 2.0**-53 < SITE_SLACK
    assert SITE_PATIENTS * SITE_POSITIONS <= SITE_TERMS // 2


@pytest.mark.parametrize(("patients", "rate"), [(740, 0.2), (40, 0.05), (10**5, 0.01), (10, 1.0)])
def test_the_most_sampled_patients_bound_the_binomial_tail(patients: int, rate: float) -> None:
    most, attempts = max_sampled(patients, rate, 300), 300
    assert stats.binom.sf(most, patients, rate) * attempts <= 2.0**-41
    assert patients * rate <= most <= patients


def words(**changes: Any) -> int:
    plan: dict[str, Any] = {
        "scale": 2**16,
        "dimension": 14,
        "most_patients": 300,
        "noise_multiplier": 10.0,
        "least_sites": 3,
        "colluding_sites": 1,
        "attempts": 300,
    }
    return whole_words(clipped_sum_bits(**(plan | changes)))


def test_words_grow_when_a_sum_could_wrap_and_are_refused_when_none_would_do() -> None:
    assert words() == 32
    assert words(most_patients=2**15) == 64
    assert words(scale=2**23, dimension=10**6) == 64
    assert words(noise_multiplier=5000.0) == 64
    with pytest.raises(WardroundError) as refusal:
        words(scale=2**30, noise_multiplier=1e9)
    assert refusal.value.code is Code.CONFIGURATION


def test_the_bound_on_a_sum_holds_against_the_exact_skellam_tail() -> None:
    """At the smallest number of patients that takes 64 bits, the next smaller cannot wrap."""
    low, high = 1, 2**17
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if words(most_patients=middle) == 32 else (low, middle)
    mu = (10.0 * 2**16) ** 2 * 3 / 2
    room = 2**31 - low * sensitivity(2**16, 14, "site").l2
    # A Skellam tail lies within a factor 1 + o(1) of the Gaussian's at this variance.
    log_probability = math.log(2 * 14 * 300) + stats.norm.logsf(room / math.sqrt(mu))
    assert log_probability < -41 * math.log(2)
