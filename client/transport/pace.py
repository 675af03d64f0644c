"""How a large body is cut for the line that there is: parts of some two seconds each.

A part that is not acknowledged is sent again, so that a slow line has small ones; a fast line has
large ones, several at once. The first part is small, and each may be four times the one before.
"""

from __future__ import annotations

import threading

from protocol.wire.progress import SLOWEST, WINDOW

SMALLEST, FIRST, LARGEST = 16 << 10, 64 << 10, 2 << 20
"""Bytes of a part."""
_SECONDS = 2.0
"""That a part should take."""
_LATE = 10
"""Times as long as its measured speed says, after which a part is tried again, smaller."""
_SOONEST = 20.0
"""Seconds before which none is."""


class Pace:
    """One direction of a site's line. May be used from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._part = FIRST
        self.speed: float | None = None
        """Bytes a second of one connection, as last measured; None before the first part."""

    @property
    def part(self) -> int:
        """Bytes of the next part."""
        return self._part

    def lines(self, most: int) -> int:
        """Connections to use at once: a second one fills the pauses of the first, more help only
        where a part is as large as it gets."""
        if self._part == LARGEST:
            return most
        return min(most, 1 if self._part == SMALLEST else 2)

    def limit(self, size: int) -> float:
        """Seconds that a part of `size` bytes may take. The smallest has as long as a line of
        SLOWEST bytes a second needs."""
        longest = WINDOW + size / SLOWEST
        if self.speed is None or size <= SMALLEST:
            return longest
        return min(longest, max(_SOONEST, _LATE * size / self.speed))

    def took(self, size: int, seconds: float) -> None:
        """A part of `size` bytes went through. One that was not full says little of the speed."""
        with self._lock:
            if size < self._part:
                return
            self.speed = size / max(seconds, 1e-6)
            self._set(min(self.speed * _SECONDS, 4.0 * self._part))

    def was_late(self) -> None:
        """A part did not come through within its limit."""
        with self._lock:
            self.speed = (self.speed or self._part / WINDOW) / 8
            self._set(self._part / 8)

    def _set(self, part: float) -> None:
        self._part = int(min(max(part, SMALLEST), LARGEST))
