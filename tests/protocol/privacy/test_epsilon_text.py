"""No page, table or line shows a smaller epsilon than was spent, or more than is left."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.privacy.epsilon_text import rounded_down, rounded_up

ROOT = Path(__file__).parents[3]
EPSILONS = st.floats(0, 1e6, allow_nan=False)
ROUNDED = re.compile(r"\{[^{}]*(epsilon|spent|reserved|broken|alone|total|left)\b[^{}]*:\.\d")
"""An f-string's field that rounds to the nearest."""


@given(EPSILONS)
def test_what_is_shown_as_spent_is_at_least_what_was(epsilon: float) -> None:
    shown = float(rounded_up(epsilon))
    assert epsilon <= shown <= epsilon + 0.00100001


@given(EPSILONS)
def test_what_is_shown_as_left_is_at_most_what_is(epsilon: float) -> None:
    assert float(rounded_down(epsilon)) <= epsilon


@pytest.mark.parametrize(
    ("epsilon", "shown"),
    [(0.0, "0.000"), (0.2, "0.200"), (2.9996, "3.000"), (1.0001, "1.001"), (None, "infinite")],
)
def test_spent(epsilon: float | None, shown: str) -> None:
    assert rounded_up(epsilon) == shown


@pytest.mark.parametrize(
    ("epsilon", "shown"),
    [(-0.1, "0.000"), (2.9996, "2.999"), (float("inf"), "infinite")],
)
def test_left(epsilon: float, shown: str) -> None:
    assert rounded_down(epsilon) == shown


def test_nothing_else_in_the_product_rounds_an_epsilon_for_a_reader() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for room in ("protocol", "tasks", "client", "server", "launch", "wardround")
        for path in (ROOT / room).rglob("*.py")
        for line in path.read_text().splitlines()
        if "epsilon" in line.lower() and ROUNDED.search(line)
    ]
    assert not found
