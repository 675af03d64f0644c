"""Integer systems against fractions: exact, and the same whatever the order of the summands."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.exact.linear_system import CollinearError, solve

BITS = 40


def positive(rows: list[list[int]]) -> list[list[int]]:
    """A'A + 1, which is positive definite."""
    a = np.array(rows, dtype=object)
    made: list[list[int]] = (a.T @ a + np.eye(a.shape[1], dtype=int)).tolist()
    return made


@st.composite
def systems(draw: st.DrawFn) -> tuple[list[list[int]], list[int]]:
    size = draw(st.integers(1, 6))
    number = st.integers(-(10**6), 10**6)
    rows = draw(st.lists(st.lists(number, min_size=size, max_size=size), min_size=1, max_size=6))
    return positive(rows), draw(st.lists(number, min_size=size, max_size=size))


@given(systems())
def test_what_is_found_solves_the_system_to_half_a_unit(
    system: tuple[list[list[int]], list[int]],
) -> None:
    matrix, right = system
    try:
        found = solve(matrix, right, BITS)
    except CollinearError:
        values = np.linalg.eigvalsh(np.array(matrix, float))
        assert values[-1] / max(values[0], 1e-300) > 2**20
        return
    half = Fraction(1, 2)
    for row, value in zip(matrix, right, strict=True):
        off = sum(a * x for a, x in zip(row, found, strict=True)) - value * 2**BITS
        assert abs(off) <= half * sum(abs(a) for a in row)


def test_a_known_system() -> None:
    assert solve([[2, 1], [1, 3]], [3, 5], 10) == (round(0.8 * 1024), round(1.4 * 1024))
    assert solve([[3]], [-1], 1) == (-1,)  # -2/3 of a unit


def test_a_column_that_says_what_others_say_is_named() -> None:
    a = np.array([[1, 2, 3], [4, 5, 9], [7, 8, 15], [1, 0, 1]], dtype=object) * 2**30
    with pytest.raises(CollinearError) as caught:
        solve((a.T @ a).tolist(), [1, 2, 3], BITS)
    assert caught.value.column == 2
