"""The SuperLink's event log: one JSON line per event.

No message contents, no lengths that depend on data; who came, who was refused and why. The file
is 0600. An outsider who knocks without end cannot fill the disk: refusals are written one by one
up to a rate, and counted above it.
"""

from __future__ import annotations

import json
import os
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

_WINDOW = 10.0
_REFUSALS_A_WINDOW = 50


class EventLog:
    """Appends events to `path` (None: nowhere). May be used from any thread."""

    def __init__(self, path: Path | None) -> None:
        self._lock = threading.Lock()
        self._window = time.monotonic()
        self._refusals = 0
        self._file = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            os.fchmod(descriptor, 0o600)
            self._file = os.fdopen(descriptor, "a", encoding="utf-8")

    def write(self, event: str, **keys: str | int | float | None) -> None:
        """Appends one event with its keys."""
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "event": event,
            **keys,
        }
        with self._lock:
            if self._file is not None:
                self._file.write(json.dumps(line) + "\n")
                self._file.flush()

    def refused(self, route: str, reason: str, address: str, site: str | None = None) -> None:
        """Appends a refusal, or counts it when there are too many."""
        with self._lock:
            now = time.monotonic()
            dropped = 0
            if now - self._window > _WINDOW:
                dropped = max(0, self._refusals - _REFUSALS_A_WINDOW)
                self._window, self._refusals = now, 0
            self._refusals += 1
            write = self._refusals <= _REFUSALS_A_WINDOW
        if dropped:
            self.write("refused-more", count=dropped)
        if write:
            self.write("refused", route=route, reason=reason, address=address, site=site)

    def close(self) -> None:
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None
