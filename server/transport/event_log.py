"""The SuperLink's event log: one JSON line per event.

No message contents, no lengths that depend on data; who came, who was refused and why. The file
is 0600. An outsider who knocks without end cannot fill the disk: refusals are written one by one
up to a rate, and counted above it. Events that the disk does not take are counted too, and the
count is written once there is room; no failing write reaches whoever has something to log.
"""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

from protocol import durable_files
from protocol.housekeeping import Housekeeping
from protocol.untrusted import Throttle

_WINDOW = 10.0
_REFUSALS_A_WINDOW = 50
_LARGEST, _KEPT = 16 << 20, 8
"""Bytes of a file, and files that are kept beside it."""


class EventLog:
    """Appends events to `path` (None: nowhere). May be used from any thread."""

    _writing: ClassVar[threading.Lock] = threading.Lock()
    """Of all logs: a coordinator's journal and its SuperLink write to one file."""

    def __init__(self, path: Path | None) -> None:
        """Makes the file, or cuts off a line that a crash left unfinished."""
        self._lock = threading.Lock()
        self._refusals = Throttle(_REFUSALS_A_WINDOW, _WINDOW)
        self._path = path
        self._housekeeping = Housekeeping()
        self._lost = 0
        if path is not None:
            with self._housekeeping.task("event log"), self._writing:
                path.parent.mkdir(parents=True, exist_ok=True)
                durable_files.append(path, b"", durable=False)
                path.chmod(durable_files.PRIVATE)
                durable_files.cut_torn_line(path)

    @property
    def trouble(self) -> str:
        """Why the file did not take the last event; "" when it did."""
        return self._housekeeping.failing.get("event log", "")

    def write(self, event: str, **keys: str | int | float | None) -> None:
        """Appends one event with its keys. Never raises: an event that is lost is counted."""
        path = self._path
        if path is None:
            return
        line = _line(event, **keys)
        with self._writing:
            lost, self._lost = self._lost, self._lost + 1
            with self._housekeeping.task("event log"):
                _rotate(path)
                if lost:
                    durable_files.cut_torn_line(path)
                    line = _line("events-lost", count=lost) + line
                durable_files.append(path, line, durable=False)
                self._lost = 0

    def refused(self, route: str, reason: str, address: str, site: str | None = None) -> None:
        """Appends a refusal, or counts it when there are too many."""
        with self._lock:
            passes, held_back = self._refusals.admit()
        if held_back:
            self.write("refused-more", count=held_back)
        if passes:
            self.write("refused", route=route, reason=reason, address=address, site=site)

    def close(self) -> None:
        """Writes no further event."""
        self._path = None


def _rotate(path: Path) -> None:
    """Sets a file of _LARGEST bytes aside as `.1`, the one before as `.2`, and so on; the oldest of
    _KEPT goes. Raises OSError."""
    if not path.exists() or path.stat().st_size < _LARGEST:
        return
    for number in range(_KEPT - 1, 0, -1):
        older = path.with_name(f"{path.name}.{number}")
        if older.exists():
            older.replace(path.with_name(f"{path.name}.{number + 1}"))
    path.replace(path.with_name(f"{path.name}.1"))


def _line(event: str, **keys: str | int | float | None) -> bytes:
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return json.dumps({"time": now, "event": event, **keys}).encode() + b"\n"
