"""A study's events in a file of JSON lines, and a way to wait for the next one."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from array import array
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from protocol import durable_files
from server.coordinator.study_events import DURABLE, ENDS


class StudyLog:
    """Appended to by the study's thread, read by any. Events are numbered from 1."""

    def __init__(self, path: Path) -> None:
        """Opens or makes the file; what a crash or a power cut left of the last line is cut off.

        Raises OSError, and ValueError where an event before the last one is damaged.
        """
        self._path = path
        self._lock = threading.Lock()
        self._ends = array("Q", [0])
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self.last_type = ""
        self.closed = False
        if not path.exists():
            durable_files.write(path, b"")
        torn = False
        with path.open("rb") as file:
            for line in file:
                type_ = _type_of(line)
                if torn and type_:
                    raise ValueError("an event before the last one is damaged")
                torn = not type_
                if not torn:
                    self._ends.append(self._ends[-1] + len(line))
                    self.last_type = type_
        if torn:
            os.truncate(path, self._ends[-1])

    def __len__(self) -> int:
        return len(self._ends) - 1

    @property
    def ended(self) -> bool:
        """Nothing more happens by itself: the study has finished, failed or been cancelled."""
        return self.last_type in ENDS

    def append(self, type_: str, **content: Any) -> None:
        """Writes an event; one that ends the study is synced. Wakes whoever waits.

        Raises OSError where the disk does not take it; then nothing has happened.
        """
        with self._lock:
            event = {
                "n": len(self._ends),
                "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "type": type_,
                **content,
            }
            line = json.dumps(event, allow_nan=False).encode() + b"\n"
            if self._path.stat().st_size > self._ends[-1]:  # of a write that failed half-way
                os.truncate(self._path, self._ends[-1])
            durable_files.append(self._path, line, durable=type_ in DURABLE)
            self._ends.append(self._ends[-1] + len(line))
            self.last_type = type_
        self._wake()

    def lines(self, after: int, most: int = 256) -> list[bytes]:
        """Events after number `after`, as lines, `most` of them."""
        with self._lock:
            first, last = max(0, after), min(len(self._ends) - 1, max(0, after) + most)
            if first >= last:
                return []
            start, end = self._ends[first], self._ends[last]
        with self._path.open("rb") as file:
            file.seek(start)
            return file.read(end - start).splitlines(keepends=True)

    def events(self, type_: str) -> list[dict[str, Any]]:
        """Every event of a type."""
        events = (json.loads(line) for line in self.lines(0, len(self)))
        return [event for event in events if event["type"] == type_]

    async def wait(self, after: int, timeout: float) -> None:
        """Returns when there is an event after number `after`, at `close`, or at the timeout."""
        loop, event = asyncio.get_running_loop(), asyncio.Event()
        entry = (loop, event)
        with self._lock:
            self._waiting.add(entry)
        try:
            if len(self) <= after and not self.closed:
                await asyncio.wait_for(event.wait(), timeout)
        except TimeoutError:
            pass
        finally:
            with self._lock:
                self._waiting.discard(entry)

    def close(self) -> None:
        """Nobody waits any longer: the coordinator is ending."""
        self.closed = True
        self._wake()

    def _wake(self) -> None:
        with self._lock:
            for loop, event in self._waiting:
                if not loop.is_closed():
                    loop.call_soon_threadsafe(event.set)


def _type_of(line: bytes) -> str:
    """An event's type; "" for what is no whole event."""
    try:
        return str(json.loads(line)["type"]) if line.endswith(b"\n") else ""
    except (ValueError, KeyError, TypeError):
        return ""
