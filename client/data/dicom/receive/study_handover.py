"""Hand-over of received studies to the index, once nothing has arrived for a while.

Objects are on disk already, so that nothing here need be durable: after a restart the whole store
is handed over, and the index skips what it has read.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from client.log_events import event as log
from protocol.errors import WardroundError

_IDLE = 900.0
"""Seconds without any study between two calls."""


class StudyHandover:
    """A queue of received studies, and the thread that hands over those that are quiet.

    take_in(folders): indexes them; an error is logged, and the studies are tried again later. Where
    nothing arrives it is called without any now and then, for what waits to be tried again.
    """

    def __init__(
        self, store: Path, quiet: float, take_in: Callable[[Sequence[Path]], None]
    ) -> None:
        self._quiet, self._take_in = quiet, take_in
        self._together = min(2.0, quiet / 4)  # studies sent one after the other go in as one batch
        self._last: dict[Path, float] = {store: time.monotonic() - quiet}
        self._changed = threading.Condition()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="arrivals", daemon=True)
        self.handed_over = 0

    def start(self) -> None:
        self._thread.start()

    def note(self, study: Path) -> None:
        """Records that an object of the study has arrived."""
        with self._changed:
            self._last[study] = time.monotonic()
            self._changed.notify()

    @property
    def waiting(self) -> int:
        with self._changed:
            return len(self._last)

    def ending(self) -> bool:
        """Whether the current hand-over must stop."""
        return self._end.is_set()

    def close(self) -> None:
        """Ends after the current file. The next start hands over the rest."""
        with self._changed:
            self._end.set()
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while (studies := self._due()) is not None:
            try:
                self._take_in(studies)
            except Exception as error:  # whatever it is, the studies must be tried again
                known = isinstance(error, WardroundError)
                log("studies not indexed", why=str(error) if known else type(error).__name__)
                with self._changed:
                    for study in studies:
                        self._last.setdefault(study, time.monotonic())
            else:
                self.handed_over += len(studies)

    def _due(self) -> list[Path] | None:
        """Waits for studies that have been quiet for long enough; None once closed."""
        with self._changed:
            while not self._end.is_set():
                now = time.monotonic()
                soonest = min(self._last.values(), default=None)
                if soonest is not None and now - soonest >= self._quiet + self._together:
                    quiet = [s for s, last in self._last.items() if now - last >= self._quiet]
                    for study in quiet:
                        del self._last[study]
                    return quiet
                left = _IDLE if soonest is None else soonest + self._quiet + self._together - now
                if not self._changed.wait(left) and soonest is None:
                    return []
            return None
