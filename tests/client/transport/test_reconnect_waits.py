"""How long a site waits before it calls its coordinator again."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest

from client.transport.fleet_connection import _BackOff
from protocol.errors import Code, WardroundError


def waits(code: Code, failures: int) -> list[float]:
    """Seconds after each of so many failures in a row."""
    back_off, found = _BackOff(), []
    for _ in range(failures):
        before = time.monotonic()
        back_off.failed(WardroundError(code, "It failed."))
        found.append(back_off.retry_at - before)
    return found


def test_a_coordinator_that_is_away_is_tried_every_other_second() -> None:
    assert max(waits(Code.UNREACHABLE, 50)) < 2.5


@pytest.mark.parametrize("code", [Code.UNREACHABLE, Code.TLS, Code.NODE_KEY])
def test_no_wait_is_much_more_than_four_times_the_one_before(code: Code) -> None:
    found = waits(code, 50)
    assert all(later <= 4.5 * sooner for sooner, later in pairwise(found))
    assert found[0] < 0.5


def test_what_a_person_has_to_mend_is_tried_twice_a_minute() -> None:
    assert 15 <= waits(Code.NODE_KEY, 50)[-1] < 31
