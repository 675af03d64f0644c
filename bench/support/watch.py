"""What a family of processes holds in memory, and what crosses this machine's loopback interface,
while something runs."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from pathlib import Path
from typing import Self

_EVERY = 0.1


def descendants(process: int) -> list[int]:
    """All processes that a process has started, and these have; without itself."""
    found, seen = [process], list[int]()
    while found:
        parent = found.pop()
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += (children := [int(word) for word in task.read_text().split()])
            except OSError:
                continue
            seen += children
    return seen


def held(process: int) -> int:
    """Bytes of memory of all that descends of a process, shared pages counted once (Pss)."""
    total = 0
    for one in descendants(process):
        try:
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
        except OSError:  # it ended
            continue
        total += sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


def looped() -> int:
    """Bytes that the loopback interface has carried, headers of TCP and IP included."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == "lo":
            return int(numbers.split()[0])
    raise RuntimeError("This machine has no loopback interface.")


class Watch:
    """Looks ten times a second, in a thread, inside `with`."""

    def __init__(self, process: int) -> None:
        """process: all that descends of it is looked at."""
        self._process, self._ending = process, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._times, self._bytes = list[float](), list[int]()
        self.idle = self.peak = held(process)
        """Bytes of memory before, and the most that were held."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def carried(self, since: float, until: float) -> int:
        """Bytes on the loopback interface between two times (seconds since the epoch)."""
        first, last = (
            self._bytes[min(bisect_left(self._times, when), len(self._times) - 1)]
            for when in (since, until)
        )
        return last - first

    def _look(self) -> None:
        while not self._ending.wait(_EVERY):
            self._times.append(time.time())
            self._bytes.append(looped())
            self.peak = max(self.peak, held(self._process))
