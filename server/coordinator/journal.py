"""The coordinator's own log: one line per event, in its event log file and on the console."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from protocol.housekeeping import Housekeeping
from protocol.terminal.printable import printable
from server.transport.event_log import EventLog

Value = str | int | float | None


class Journal:
    """Events with keys. No contents of messages, no token, nothing of a patient."""

    def __init__(
        self, path: Path | None, *, console: TextIO | None = sys.stderr, as_json: bool = False
    ) -> None:
        self._log = EventLog(path)
        self._console, self._as_json = console, as_json
        self._housekeeping = Housekeeping()
        self._trouble = ""

    def write(self, event: str, **keys: Value) -> None:
        """To the event log and to the console. Never raises: where one of them fails, the other
        one says so."""
        self._log.write(event, **keys)
        if self._log.trouble != self._trouble:
            self._trouble = self._log.trouble
            self._print("event-log", {"why": self._trouble or "works again"})
        self._print(event, keys)

    def _print(self, event: str, keys: Mapping[str, Value]) -> None:
        if self._console is None:
            return
        now = datetime.now(UTC)
        if self._as_json:
            time = now.isoformat(timespec="milliseconds")
            line = json.dumps({"time": time, "event": event, **keys})
        else:
            words = " ".join(f"{k}={v}" for k, v in keys.items() if v is not None)
            line = printable(f"{now:%H:%M:%S} {event:<16} {words}".rstrip())
        with self._housekeeping.task("console"):  # whoever watched may be gone
            self._console.write(line + "\n")  # one call: several threads write here
            self._console.flush()

    @property
    def trouble(self) -> str:
        """Why the event log did not take the last event; "" when it did."""
        return self._log.trouble

    def audit(self, account: str, method: str, path: str, status: int) -> None:
        """One call of the control API, to the event log only: who, what, and what came of it."""
        self._log.write("control", account=account, method=method, path=path, status=status)

    def delivered(self, study: str, why: str) -> None:
        """What MLflow had not taken of a study is there now, or still waits, and why."""
        self.write("tracking-waits" if why else "tracking-settled", study=study, why=why or None)

    def refused(self, path: str, reason: str, address: str) -> None:
        """A call by nobody we know: counted rather than written when there are many."""
        self._log.refused(path, reason, address)

    def close(self) -> None:
        self._log.close()
