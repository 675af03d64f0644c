"""Bytes from another party: parsed inside one kind of block, and refused in our own words.

    with parsing("The answer is malformed."):
        answer.ParseFromString(body)

A parser raises what it likes on bytes that nobody meant it to read: ValueError, RecursionError,
DecodeError, struct.error, KeyError. Whoever lists them forgets one, and that one ends the process.
Sizes are bounded before, where the bytes are received.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from protocol.errors import Code, WardroundError


@contextmanager
def parsing(message: str, code: Code = Code.MESSAGE, remedy: str = "") -> Iterator[None]:
    """Whatever is raised inside becomes this WardroundError, which quotes nothing of the content.

    Only parsing belongs inside: a fault of our own would be hidden too.
    """
    try:
        yield
    except WardroundError:
        raise
    except Exception:
        raise WardroundError(code, message, remedy=remedy) from None


class Throttle:
    """Lets `max_events` events of each kind pass in `seconds`, and counts the others.

    Kinds must be few, and chosen by this program. Not locked: the caller's own lock holds.
    """

    def __init__(
        self, max_events: int, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_events, self._seconds, self._clock = max_events, seconds, clock
        self._windows: dict[str, tuple[float, int]] = {}

    def admit(self, kind: str = "") -> tuple[bool, int]:
        """Returns whether this event passes, and how many were held back in the last window, which
        is told once, with the first event of the next window."""
        now = self._clock()
        began, seen = self._windows.get(kind, (now, 0))
        held_back = 0
        if now - began > self._seconds:
            held_back, began, seen = max(0, seen - self._max_events), now, 0
        self._windows[kind] = began, seen + 1
        return seen < self._max_events, held_back

    def held_back(self) -> dict[str, int]:
        """Kind -> how many were held back and not told yet, of those that were; forgets them."""
        counts = {kind: seen - self._max_events for kind, (_, seen) in self._windows.items()}
        self._windows.clear()
        return {kind: count for kind, count in counts.items() if count > 0}
