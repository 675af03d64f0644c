"""The daemon's status, for `wardround-site status`, /healthz, /metrics and systemd.

The daemon writes it to state/status.json (0600, whole or not at all). It describes the daemon, not
the data: no count of patients, no score.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from protocol import durable_files
from protocol.errors import Code, WardroundError

FILE, _LOCK = "status.json", "daemon.lock"


@dataclass(frozen=True)
class LastError:
    """The newest error: its time (UTC, ISO 8601), code and text."""

    time: str
    code: str
    message: str


@dataclass(frozen=True)
class Status:
    """A daemon's status at one moment. Times are UTC in ISO 8601; `uptime` is in seconds.

    phase: starting, idle, training (computing an answer), summing (waiting for the other sites),
    stopping, stopped. rules: digest of the policy that it started with. answers: number sent by
    kind; refusals: number by code. coordinator_paused: its disk is full, and studies wait for it.
    attention: what a person should do before it becomes a fault, in sentences.
    """

    site: str
    coordinator: str
    version: str
    pid: int
    started: str
    updated: str
    uptime: float = 0.0
    rules: str = ""
    connected: bool = False
    coordinator_paused: bool = False
    phase: str = "starting"
    study: str | None = None
    title: str | None = None
    round: int | None = None
    rounds: int | None = None
    attempt: int | None = None
    debits: int = 0
    bytes_sent: int = 0
    answers: Mapping[str, int] = field(default_factory=dict)
    refusals: Mapping[str, int] = field(default_factory=dict)
    last_error: LastError | None = None
    attention: tuple[str, ...] = ()


class StatusBoard:
    """The daemon's current status; any thread may change or read it."""

    def __init__(self, status: Status) -> None:
        self._status, self._lock = status, threading.Lock()

    @property
    def now(self) -> Status:
        with self._lock:
            return self._status

    def set(self, **changes: Any) -> None:
        with self._lock:
            self._status = replace(self._status, **changes)

    def count(self, what: str, key: str) -> None:
        """Adds one to a count in `answers` or `refusals`."""
        with self._lock:
            counts = dict(getattr(self._status, what))
            changes: dict[str, Any] = {what: counts | {key: counts.get(key, 0) + 1}}
            self._status = replace(self._status, **changes)

    def fault(self, error: WardroundError) -> None:
        self.set(last_error=LastError(utc(), error.code.value, str(error)))


def utc() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def write(folder: Path, status: Status) -> None:
    """Replaces status.json, without fsync: after a power cut it is out of date anyway. Raises
    OSError."""
    durable_files.write(folder / FILE, json.dumps(asdict(status)).encode(), durable=False)


def read(folder: Path) -> Status | None:
    """Returns what the daemon wrote last; None where it never ran. Raises WardroundError(STATE)."""
    try:
        values = json.loads((folder / FILE).read_bytes())
        fault = values.pop("last_error")
        values["attention"] = tuple(values.get("attention", ()))
        known = {f.name for f in fields(Status)}
        return Status(
            **{key: value for key, value in values.items() if key in known},
            last_error=LastError(**fault) if fault else None,
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise WardroundError(
            Code.STATE,
            f"{folder / FILE} cannot be read.",
            remedy="Remove it; a running daemon writes it again within seconds.",
        ) from None


def running(folder: Path) -> bool:
    """Returns whether a daemon holds the state folder. Only reads /proc/locks (proc(5)), since
    trying the lock could prevent a daemon from starting at that very moment."""
    try:
        inode = (folder / _LOCK).stat().st_ino
        locks = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return False
    held = (line.split() for line in locks)
    return any("FLOCK" in f and "WRITE" in f and f":{inode} " in " ".join(f) + " " for f in held)
