"""A long computation lets short answers go first.

Answers are made by threads of one process, which share an interpreter and perhaps one core. Beside
a study that trains for minutes, an answer of another one would wait for both tens of times, up to
some milliseconds each. So a computation that goes on for longer than LONG seconds runs at a lower
priority from then on, and between two of its steps it gives the core away and stands still while an
answer is made that began less than SHORT seconds ago (`bench/two_studies.py` has what that does).
For half of its time at most: short answers without end slow it down, and never stop it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

LONG, SHORT = 1.0, 0.25
_LOWER = 10
"""By how much a long computation is nicer to others than the daemon is."""


class Precedence:
    """Among the answers of one daemon."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """clock: seconds since whenever."""
        self._clock = clock
        self._began: dict[int, float] = {}
        """When each answer did, by the thread that makes it."""
        self._lowered: set[int] = set()
        self._stood: dict[int, float] = {}
        """For how many seconds each has stood still."""
        self._changed = threading.Condition()

    @contextmanager
    def answering(self) -> Iterator[None]:
        """In a thread that makes one answer within the block. It may have a lower priority then,
        which it cannot give back: what it does next should be as little urgent."""
        thread = threading.get_native_id()
        with self._changed:
            self._began[thread], self._stood[thread] = self._clock(), 0.0
        try:
            yield
        finally:
            with self._changed:
                del self._began[thread], self._stood[thread]
                self._lowered.discard(thread)
                self._changed.notify_all()

    def give_way(self) -> None:
        """Between two steps of a computation, in the thread that makes the answer."""
        thread = threading.get_native_id()
        began = self._began.get(thread)
        if began is None or self._clock() - began < LONG:
            return
        if thread not in self._lowered:
            self._lowered.add(thread)
            with suppress(OSError):  # where threads have no priority of their own, it goes without
                nice = os.getpriority(os.PRIO_PROCESS, thread)
                os.setpriority(os.PRIO_PROCESS, thread, min(19, nice + _LOWER))
        os.sched_yield()
        with self._changed:
            while (wait := self._may_stand(thread)) > 0:
                before = self._clock()
                self._changed.wait(wait)
                self._stood[thread] += self._clock() - before

    def _may_stand(self, thread: int) -> float:
        """Seconds until each other answer in hand has taken SHORT of them, or until this one has
        stood still for half of its time; 0 or less: it goes on."""
        others = [began for other, began in self._began.items() if other != thread]
        if not others:
            return 0.0
        now = self._clock()
        left = now - self._began[thread] - 2 * self._stood[thread]
        return min(max(others) + SHORT - now, left)
