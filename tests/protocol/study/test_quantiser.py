"""Rounding at random keeps the mean and moves no value past its neighbours; a rotation keeps the
norm and spreads it.

Reported of others: one range for all layers, found by their own extremes, that a single large value
makes useless for the rest (Flower issue 2093); float16 sums that became infinite (NVFlare 3035).
"""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from protocol.errors import WardroundError
from protocol.privacy.randomness import Stream
from protocol.study.quantiser import LARGEST, Draw, rotated, rotated_back, round_randomly, window

KEY = bytes(range(32))
floats = st.floats(-1e9, 1e9)


def draw(seed: int = 0) -> Draw:
    return Stream(seed.to_bytes(32)).words


@given(arrays.arrays(np.float64, st.integers(0, 50), elements=floats), st.integers(0, 2**32))
def test_a_value_becomes_an_integer_below_or_above_it(
    values: npt.NDArray[np.float64], seed: int
) -> None:
    rounded = round_randomly(values, draw(seed))
    on_grid = np.rint(values * 2.0**24) / 2.0**24
    assert (np.floor(on_grid) <= rounded).all()
    assert (rounded <= np.ceil(on_grid)).all()


@pytest.mark.parametrize("value", [0.25, -0.25, 3.5, -1e5 - 0.125, 1 - 2**-20])
def test_rounding_keeps_the_mean(value: float) -> None:
    """Of 400,000 draws the mean is within five of its deviations: without bias, and as spread as a
    coin of this side."""
    count, part = 400_000, value - math.floor(value)
    rounded = round_randomly(np.full(count, value), draw())
    deviation = math.sqrt(part * (1 - part))
    assert rounded.mean() == pytest.approx(value, abs=5 * deviation / math.sqrt(count) + 2**-25)
    assert rounded.std() == pytest.approx(deviation, rel=0.05, abs=0.005)


def test_values_are_rounded_independently() -> None:
    rounded = round_randomly(np.full(1 << 18, 0.5), draw())
    for lag in (1, 2, 64, 1 << 16):
        together = float(np.mean(rounded[lag:] * rounded[:-lag]))
        assert together == pytest.approx(0.25, abs=0.005)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 2 * LARGEST])
def test_what_is_no_number_or_too_large_is_refused(value: float) -> None:
    with pytest.raises(WardroundError, match="not finite, or too large"):
        round_randomly(np.array([0.0, value]), draw())


@given(
    arrays.arrays(np.float64, st.integers(0, 200), elements=floats),
    st.binary(min_size=32, max_size=32),
)
def test_a_rotation_keeps_the_norm_and_can_be_undone(
    values: npt.NDArray[np.float64], key: bytes
) -> None:
    turned = rotated(values, key)
    scale = 1e-9 * float(np.abs(values).max(initial=1.0)) * max(1, len(values))
    assert np.linalg.norm(turned) == pytest.approx(np.linalg.norm(values), abs=scale)
    assert rotated_back(turned, key) == pytest.approx(values, abs=scale)


@pytest.mark.parametrize("size", [1000, 1024, 1500, 4095])
@pytest.mark.parametrize("place", [0, 500, -1])
def test_one_large_coordinate_is_spread_over_all(size: int, place: int) -> None:
    """Each rotated coordinate is sub-Gaussian with variance |v|^2 / W: beyond six deviations is
    none of them, whatever v."""
    values = np.zeros(size)
    values[place] = 1.0
    limit = 6 / math.sqrt(window(size))
    for key in range(20):
        assert np.abs(rotated(values, key.to_bytes(32))).max() <= limit


def test_rotations_of_different_keys_differ() -> None:
    values = np.ones(64, dtype=np.float32)
    assert (rotated(values, KEY) == rotated(values, KEY)).all()
    assert not (rotated(values, KEY) == rotated(values, bytes(32))).all()
