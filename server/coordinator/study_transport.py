"""A study's connection to its sites; another thread may end it, to cancel or suspend the study."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping

from protocol.wire.messages import Frame
from server.transport.fleet_run import FleetRun
from server.transport.superlink import SuperLink


class StudySuspendedError(Exception):
    """Leaves the round loop: the coordinator ends, and takes the study up at its next start."""


class StudyPausedError(Exception):
    """Leaves the round loop: the study's owner has paused it."""


class StudyFleet:
    """A `server.rounds.transport.Fleet` that can be suspended, or ended to cancel or pause."""

    def __init__(
        self,
        link: SuperLink,
        label: str,
        cancelled: Callable[[], bool] = lambda: False,
        paused: Callable[[], bool] = lambda: False,
    ) -> None:
        self._link, self._label = link, label
        self._cancelled, self._paused = cancelled, paused
        self._run: FleetRun | None = None
        self._suspended = threading.Event()
        self._pausing = False

    @property
    def suspended(self) -> bool:
        return self._suspended.is_set()

    def suspend(self) -> None:
        """Ends the exchange in hand; no other follows."""
        self._suspended.set()
        self.hang_up()

    def hang_up(self) -> None:
        """Ends the exchange in hand. To cancel or pause, `cancelled` or `paused` is true by now."""
        run, self._run = self._run, None
        if run is not None:
            run.close()

    def stopped(self) -> bool:
        """Whether the study is cancelled. Raises StudySuspendedError and, once, StudyPausedError:
        what is left to do then is to say so."""
        if self.suspended:
            raise StudySuspendedError
        if self._cancelled():
            return True
        if self._paused() and not self._pausing:
            self._pausing = True
            raise StudyPausedError
        return False

    def online(self) -> frozenset[str]:
        """Nobody once suspended."""
        return frozenset() if self.suspended else self._link.online()

    def ask(
        self, frames: Mapping[str, Frame], timeout: float
    ) -> Iterator[tuple[str, Frame | None]]:
        if self._run is None:
            self._run = self._link.open_run(self._label)
        run, here = self._run, self.online()
        # Looked at only now: whoever hangs up from here on finds the run that is asked below.
        if self.suspended or self._cancelled() or self._paused():
            here = frozenset()
        yield from ((site, None) for site in frames if site not in here)
        if here:
            yield from run.ask({s: f for s, f in frames.items() if s in here}, timeout)
