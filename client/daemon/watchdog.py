"""Reports the daemon's status every second: to status.json, the log and systemd's watchdog."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, Self

from client.daemon import status
from client.daemon.status import StatusBoard
from client.daemon.systemd import notify, watchdog_seconds
from client.log_events import event
from protocol.errors import WardroundError
from protocol.housekeeping import Housekeeping

_INTERVAL = 1.0
"""Seconds between two reports."""
_REWRITE = 10.0
"""Seconds after which status.json is written even unchanged, to show that the daemon is alive."""


class Connection(Protocol):
    """What is reported of a `client.transport.fleet_connection.FleetConnection`."""

    @property
    def connected(self) -> bool: ...

    @property
    def coordinator_paused(self) -> bool: ...

    @property
    def last_error(self) -> WardroundError | None: ...


class StatusReporter:
    """A reporting thread, which runs inside `with`."""

    def __init__(self, folder: Path, board: StatusBoard) -> None:
        self._folder, self._board = folder, board
        self._started = self._alive_until = time.monotonic()
        self._answers: dict[object, float] = {}
        """When each answer that is being made counts as hung."""
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._reported: tuple[bool, str | None] = (False, None)
        self._written: tuple[float, status.Status] = (-math.inf, board.now)
        self._housekeeping = Housekeeping(_note)
        self.connection: Connection | None = None
        self.attention: Callable[[], tuple[str, ...]] = tuple
        """What a person should do, in sentences; asked for at every report."""

    def __enter__(self) -> Self:
        self.expect(300.0)
        self._thread.start()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._end.set()
        self._thread.join()
        if isinstance(error, WardroundError):
            self._board.fault(error)
        self._board.set(connected=False, phase="stopped")
        self._report()

    def expect(self, seconds: float) -> None:
        """Promises another call within so many seconds; after that the daemon counts as hung, and
        systemd gets no more signs of life."""
        self._alive_until = time.monotonic() + seconds

    @contextmanager
    def expecting(self, seconds: float) -> Iterator[None]:
        """Promises that the block ends within so many seconds; beside `expect`, in any thread."""
        answer = object()
        self._answers[answer] = time.monotonic() + seconds
        try:
            yield
        finally:
            del self._answers[answer]

    @property
    def alive(self) -> bool:
        return time.monotonic() < min([self._alive_until, *list(self._answers.values())])

    def _run(self) -> None:
        period = watchdog_seconds()
        interval = _INTERVAL if period is None else min(_INTERVAL, period / 3)
        while not self._end.wait(interval):
            self._report()
            if period is not None and self.alive:
                notify("WATCHDOG=1")

    def _report(self) -> None:
        self._report_connection()
        with self._housekeeping.task("attention"):
            self._report_attention()
        now, (at, last) = self._board.now, self._written
        moment = time.monotonic()
        if now == last and moment - at < _REWRITE:
            return
        self._board.set(updated=status.utc(), uptime=round(moment - self._started, 1))
        with self._housekeeping.task("status.json"):
            status.write(self._folder, self._board.now)
            self._written = (moment, self._board.now)

    def _report_attention(self) -> None:
        attention = self.attention()
        for sentence in attention:
            if sentence not in self._board.now.attention:
                event("attention", logging.WARNING, do=sentence)
        self._board.set(attention=attention)

    def _report_connection(self) -> None:
        connection = self.connection
        if connection is None or self._end.is_set():
            return
        if connection.coordinator_paused != self._board.now.coordinator_paused:
            self._board.set(coordinator_paused=connection.coordinator_paused)
            if connection.coordinator_paused:
                event("coordinator paused", logging.WARNING, why="its disk is full")
            else:
                event("coordinator goes on")
        connected, error = connection.connected, connection.last_error
        state = (connected, error.code.value if error else None)
        if state == self._reported:
            return
        self._reported = state
        self._board.set(connected=connected)
        if connected:
            event("connected", coordinator=self._board.now.coordinator)
            notify("STATUS=connected")
        elif error is not None:
            self._board.fault(error)
            event("not connected", logging.WARNING, code=error.code.value, why=str(error))
            notify(f"STATUS=not connected ({error.code.value})")


def _note(task: str, why: str) -> None:
    event(
        "written again" if not why else "not written", logging.WARNING, file=task, why=why or None
    )
