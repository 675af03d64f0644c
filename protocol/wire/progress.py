"""When a transfer counts as standing still: by its bytes, never by how long the whole takes.

A line of SLOWEST bytes a second may take as long as it needs; a line that brings less is given up.
"""

from __future__ import annotations

from dataclasses import dataclass

SLOWEST = 1000
"""Bytes a second at which a transfer is never given up."""
WINDOW = 60.0
"""Seconds without a byte after which it is."""


@dataclass
class Patience:
    """How long a transfer is waited for: `window` seconds, and SLOWEST bytes give one of them back.

    More than `window` seconds are never saved up. So a transfer that moves SLOWEST * `window` bytes
    in any `window` seconds goes on for ever, and a slower one ends. Only `max_bytes` bytes count:
    who sends the same again and again is no further on. Times are of the monotonic clock.
    """

    window: float
    until: float
    max_bytes: int

    @staticmethod
    def beginning(now: float, window: float, max_bytes: int) -> Patience:
        return Patience(window, now + window, max_bytes)

    def moved(self, size: int, now: float) -> None:
        """So many bytes have moved."""
        counted = min(size, self.max_bytes)
        self.max_bytes -= counted
        self.until = min(self.until + counted / SLOWEST, now + self.window)

    def spent(self, now: float) -> bool:
        return now >= self.until
