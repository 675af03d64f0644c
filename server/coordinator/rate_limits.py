"""Rate limits of the control API, per account. Used in one event loop, so without locks."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

RATE, BURST = 20.0, 100.0
"""Calls a second, and calls at once, of one account."""
AT_ONCE = {"submission": 2, "stream": 32, "download": 4}
"""Of one account."""

LimitedCall = Literal["submission", "stream", "download"]


class Limits:
    """A token bucket per account (it never holds more than BURST), and what is open now."""

    def __init__(self) -> None:
        self._left: dict[str, tuple[float, float]] = {}
        self._open: Counter[tuple[str, LimitedCall]] = Counter()

    def take(self, account: str) -> bool:
        """Whether the account may make this call."""
        now = time.monotonic()
        left, seen = self._left.get(account, (BURST, now))
        left = min(BURST, left + (now - seen) * RATE)
        allowed = left >= 1.0  # what is refused costs nothing: who keeps asking still gets RATE
        self._left[account] = (left - 1.0 if allowed else left, now)
        return allowed

    def full(self, account: str, kind: LimitedCall) -> bool:
        return self._open[account, kind] >= AT_ONCE[kind]

    @contextmanager
    def open(self, account: str, kind: LimitedCall) -> Iterator[None]:
        self._open[account, kind] += 1
        try:
            yield
        finally:
            self._open[account, kind] -= 1
