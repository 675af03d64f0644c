"""An update as numbers of few bits: what its sum may be off by, what repeats, what is cut off."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from protocol.privacy.randomness import Stream
from protocol.study.study import Study
from protocol.study.vector_layout import (
    decode_gradient,
    encode_update,
    rounding_key,
    update_word_bits,
)
from protocol.vectors import Vector
from tests.protocol.study_document import study

SIZE = 27


def few(bits: int | None, sites: int = 4, **changes: Any) -> Study:
    names = [f"site{number:03}" for number in range(sites)]
    settings: dict[str, Any] = {
        "privacy": {"mode": "none", "clip_norm": 1.0},
        "evaluation": {"release": "exact"},
        "aggregation__update_bits": bits,
        "aggregation__update_range": 1.0,
        "roster": [{"name": n, "patients": 10 + k} for k, n in enumerate(names)],
    }
    return study(**(settings | changes))


def sent(found: Study, site: str, difference: Vector, round_: int = 1) -> npt.NDArray[np.int64]:
    """As `Contributor` does it in mode none."""
    draw = Stream(rounding_key(found, round_, site)).words
    return encode_update(found, site, difference, round_, draw).integers


def signed(values: npt.NDArray[np.int64], bits: int) -> npt.NDArray[np.int64]:
    """Mod 2^bits, in [-2^(bits-1), 2^(bits-1))."""
    half = np.int64(2 ** (bits - 1))
    return (values + half) % (2 * half) - half


@given(
    st.integers(2, 22),
    st.integers(3, 40),
    st.integers(0, 2**32),
    st.sampled_from([1e-3, 0.1, 1.0, 30.0]),
)
def test_the_sum_fits_its_words_and_is_off_by_a_step_a_site_at_most(
    bits: int, sites: int, seed: int, size: float
) -> None:
    """Whatever the values: words of bits + ceil(log2 n) never wrap, and where no value is cut off
    the decoded mean is the weighted mean but for n steps of the grid in norm."""
    found, random = few(bits, sites), np.random.default_rng(seed)
    total, exact, outside = np.zeros(SIZE, np.int64), np.zeros(SIZE), 0
    for site in found.sites:
        difference = (size * random.standard_normal(SIZE)).astype(np.float32)
        encoded = encode_update(found, site, difference, 1, Stream().words)
        total += encoded.integers
        outside += encoded.outside
        exact += difference * (found.patients(frozenset({site})) / found.patients())
    width = update_word_bits(found)
    assert width is not None
    assert (signed(total, width) == total).all()
    gradient = decode_gradient(found, total, frozenset(found.sites), 1)
    step = found.aggregation.update_range / (2 ** (bits - 1) - 1)
    if not outside:
        off = np.linalg.norm(-gradient - exact)
        assert off <= sites * step * SIZE**0.5 + 1e-4 * (1 + size)


def test_at_the_very_ends_of_the_range_no_word_wraps() -> None:
    """All sites, all coordinates beyond the range, to one side: n (2^(bits-1) - 1) fits, and in a
    word of one bit less it would not."""
    for sites in (3, 4, 5, 8, 9):
        found = few(8, sites)
        ends = [
            encode_update(found, site, np.full(SIZE, 1e30, np.float32), 1, Stream().words)
            for site in found.sites
        ]
        total = sum(abs(encoded.integers) for encoded in ends)
        assert all(encoded.outside == SIZE for encoded in ends)
        width = update_word_bits(found)
        assert width is not None
        assert (signed(np.asarray(total), width) == total).all()
        assert (signed(np.asarray(total), width - 1) != total).any()


def test_what_is_no_number_counts_as_zero_and_raises_nothing() -> None:
    """No answer of a private mode may depend on data."""
    for value in (np.nan, np.inf, -np.inf, 3e38):
        for bits in (None, 8):
            difference = np.full(SIZE, value, np.float32)
            integers = sent(few(bits), "site000", difference)
            assert integers.shape == (SIZE,)
    assert not sent(few(8), "site000", np.full(SIZE, np.nan, np.float32)).any()


def test_a_repeated_study_sends_the_same_numbers_and_others_do_not() -> None:
    """In mode none: the same seed, round and site give the same bits, whatever the nonce; another
    seed, round or site others. Sites that rounded alike would add up their errors."""
    difference = np.full(SIZE, 0.5, np.float32)
    alike: dict[str, Any] = {"roster": [{"name": n, "patients": 10} for n in ("a", "b", "c")]}
    found = few(4, **alike)
    again = few(4, nonce="f" * 32, **alike)
    other = few(4, optimisation={"rounds": 20, "seed": 1}, **alike)
    first = sent(found, "a", difference)
    assert (sent(again, "a", difference) == first).all()
    assert len({rounding_key(s, r, n) for s in (found, other) for r in (1, 2) for n in "abc"}) == 12
    for differs in (sent(found, "b", difference), sent(found, "a", difference, 2)):
        assert (differs != first).any()


@pytest.mark.slow
def test_a_mean_of_many_sums_is_the_update() -> None:
    """Unbiased: at 3 bits a single sum is coarse, the mean of 4,000 is not."""
    found, random = few(3), np.random.default_rng(0)
    difference = (0.05 * random.standard_normal(SIZE)).astype(np.float32)
    everyone = frozenset(found.sites)
    mean = np.zeros(SIZE)
    for _ in range(4000):
        total = sum(
            encode_update(found, site, difference, 1, Stream().words).integers
            for site in found.sites
        )
        mean -= decode_gradient(found, np.asarray(total), everyone, 1) / 4000
    assert mean == pytest.approx(difference, abs=0.06)
    # 4 sites, a step of a third, each off by half a step at most: 5 deviations of the mean.


def test_without_the_field_a_study_has_the_bytes_of_before() -> None:
    plain = study()
    assert b"update_bits" not in plain.document
    assert update_word_bits(plain) is None
    assert b'"update_bits":8' in few(8).document


@pytest.mark.parametrize("bits", [0, 1, 31, 8.0])
def test_other_numbers_of_bits_are_refused(bits: Any) -> None:
    with pytest.raises(ValidationError, match="update_bits"):
        few(bits)


def test_a_robust_rule_and_more_than_32_bits_are_refused() -> None:
    with pytest.raises(ValidationError, match="update_bits is of a mean"):
        few(8, aggregation__robust={"name": "median"}, aggregation__masked=False)
    assert update_word_bits(few(30)) == 32
    with pytest.raises(ValidationError, match="must be at most 32"):
        few(30, 5)


@given(st.integers(1, 3 << 16), st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_a_sum_is_decoded_in_its_own_memory_to_the_same_bits(size: int, seed: int) -> None:
    """A coordinator holds one vector less for it."""
    found = study(aggregation={"attempts": 24})
    low, high = np.iinfo(np.int32).min, np.iinfo(np.int32).max
    total = np.random.default_rng(seed).integers(low, high, size, np.int32, endpoint=True)
    wide = decode_gradient(found, total.astype(np.int64), frozenset(found.sites), 1)
    narrow = decode_gradient(found, total, frozenset(found.sites), 1)
    assert narrow.dtype == np.float32
    assert (narrow.view(np.int32) == wide.view(np.int32)).all()
    assert np.shares_memory(narrow, total)


def test_in_mode_distributed_no_number_changes() -> None:
    """Only the words on the wire are narrower: gradients are neither rotated nor rounded again."""
    plain, narrow = study(), study(aggregation={"attempts": 24, "update_bits": 24})
    total = np.arange(SIZE) - 9
    everyone = frozenset(plain.sites)
    gradients = [decode_gradient(found, total, everyone, 1) for found in (plain, narrow)]
    assert (gradients[0] == gradients[1]).all()
    assert update_word_bits(narrow) == 26
