"""A study's connection to its sites; another thread may end it, to cancel or suspend the study."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping

from protocol.wire.messages import Frame
from server.transport.fleet_run import FleetRun
from server.transport.superlink import SuperLink


class StudySuspendedError(Exception):
    """Leaves the round loop without telling the sites that the study has ended."""


class StudyFleet:
    """A `server.rounds.transport.Fleet` that can be suspended, or ended to cancel the study."""

    def __init__(self, link: SuperLink, label: str, cancelled: Callable[[], bool]) -> None:
        self._link, self._label, self._cancelled = link, label, cancelled
        self._run: FleetRun | None = None
        self._suspended = threading.Event()
        self._closing = False

    @property
    def suspended(self) -> bool:
        return self._suspended.is_set()

    def suspend(self) -> None:
        """Ends the exchange in hand; no other follows."""
        self._suspended.set()
        self.hang_up()

    def hang_up(self) -> None:
        """Ends the exchange in hand. To cancel, `cancelled` must be true by now."""
        run, self._run = self._run, None
        if run is not None:
            run.close()

    def stopped(self) -> bool:
        """Whether the study is cancelled. Raises StudySuspendedError."""
        if self.suspended:
            raise StudySuspendedError
        self._closing = self._cancelled()
        return self._closing

    def online(self) -> frozenset[str]:
        """Nobody once suspended, so that the round loop's farewell reaches no site."""
        return frozenset() if self.suspended else self._link.online()

    def ask(
        self, frames: Mapping[str, Frame], timeout: float
    ) -> Iterator[tuple[str, Frame | None]]:
        if self._run is None:
            self._run = self._link.open_run(self._label)
        run, here = self._run, self.online()
        # Looked at only now: whoever hangs up from here on finds the run that is asked below.
        if self.suspended or (self._cancelled() and not self._closing):
            here = frozenset()
        yield from ((site, None) for site in frames if site not in here)
        if here:
            yield from run.ask({s: f for s, f in frames.items() if s in here}, timeout)
