"""Beside the loop: says every second how the daemon stands, and that it lives."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from client.daemon import status
from client.daemon.status import Board
from client.daemon.systemd import notify, watchdog_seconds
from client.log_events import event
from protocol.errors import WardroundError

_EVERY = 1.0
"""Seconds between two looks."""
_REWRITE = 10.0
"""Seconds after which status.json is written although nothing changed: it shows life."""


class Connection(Protocol):
    """What is looked at of `client.transport.fleet_connection.FleetConnection`."""

    @property
    def connected(self) -> bool: ...

    @property
    def last_error(self) -> WardroundError | None: ...


class StatusReporter:
    """A thread that keeps status.json, the log of the connection and systemd's watchdog."""

    def __init__(self, folder: Path, board: Board) -> None:
        self._folder, self._board = folder, board
        self._started = self._alive_until = time.monotonic()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._was: tuple[bool, str | None] = (False, None)
        self._written: tuple[float, status.Status | None] = (0.0, None)
        self.connection: Connection | None = None

    def __enter__(self) -> Self:
        self.expect(300.0)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end.set()
        self._thread.join()
        if isinstance(error, WardroundError):
            self._board.fault(error)
        self._board.set(connected=False, phase="stopped")
        self._look()

    def expect(self, seconds: float) -> None:
        """The loop will be heard of again within so many seconds; else it hangs, and systemd is
        no longer told that it lives."""
        self._alive_until = time.monotonic() + seconds

    @property
    def alive(self) -> bool:
        return time.monotonic() < self._alive_until

    def _run(self) -> None:
        period = watchdog_seconds()
        every = _EVERY if period is None else min(_EVERY, period / 3)
        while not self._end.wait(every):
            self._look()
            if period is not None and self.alive:
                notify("WATCHDOG=1")

    def _look(self) -> None:
        self._look_at_connection()
        now, (at, last) = self._board.now, self._written
        moment = time.monotonic()
        if now == last and moment - at < _REWRITE:
            return
        uptime = round(moment - self._started, 1)
        self._board.set(updated=status.utc(), uptime=uptime)
        try:
            status.write(self._folder, self._board.now)
        except OSError as error:
            if last is not None or at == 0.0:
                event("status not written", logging.WARNING, reason=error.strerror)
            self._written = (moment, None)
            return
        self._written = (moment, self._board.now)

    def _look_at_connection(self) -> None:
        connection = self.connection
        if connection is None or self._end.is_set():
            return
        error = connection.last_error
        is_now = (connection.connected, error.code.value if error else None)
        if is_now == self._was:
            return
        self._was = is_now
        self._board.set(connected=is_now[0])
        if is_now[0]:
            event("connected", coordinator=self._board.now.coordinator)
            notify("STATUS=connected")
        elif error is not None:
            self._board.fault(error)
            event("not connected", logging.WARNING, code=error.code.value, why=str(error))
            notify(f"STATUS=not connected ({error.code.value})")
