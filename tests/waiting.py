"""Waiting for threads and processes that take their own time.

A busy machine makes anything slow, so no test says how long something takes: it says in which order
things happen. A limit only ends a test that hangs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

HUNG = 240.0
"""Seconds after which whoever is waited for counts as hung; pytest gives up after 300, or what a
mark says."""
NEVER = 1e6
"""Seconds, for a time-out of the product that must not be what ends a call."""


def until(true: Callable[[], object], what: str, *, pause: float = 0.02) -> None:
    """Returns once it is true. pause: seconds from one question to the next, longer where asking
    starts a process. Raises AssertionError where it never is."""
    end = time.monotonic() + HUNG
    while not true():
        if time.monotonic() > end:
            raise AssertionError(f"not within {HUNG:.0f} s: {what}")
        time.sleep(pause)


class Calls:
    """Counts the calls of a method that have returned."""

    def __init__(self, patch: pytest.MonkeyPatch, owner: object, name: str) -> None:
        self.returned = 0
        method: Callable[..., Any] = getattr(owner, name)

        def counting(*args: Any, **options: Any) -> Any:
            try:
                return method(*args, **options)
            finally:
                self.returned += 1

        patch.setattr(owner, name, counting)

    def until_one_more(self) -> None:
        """Returns once a call has returned that began after this one."""
        seen = self.returned
        until(lambda: self.returned >= seen + 2, "two more calls")
