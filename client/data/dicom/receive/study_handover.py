"""Hand-over: a study that has been quiet for a while is brought into the index.

What has arrived is on disk, so that nothing here need be durable: after a restart everything in
the store counts as just arrived, and the index knows what it has read already.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from client.log_events import event as log
from protocol.errors import WardroundError


class Arrivals:
    """Studies that wait to be quiet, and the thread that hands them over.

    take_in(folders): indexes them; what it raises is logged, and tried again later.
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
        """An object of the study has come."""
        with self._changed:
            self._last[study] = time.monotonic()
            self._changed.notify()

    @property
    def waiting(self) -> int:
        with self._changed:
            return len(self._last)

    def ending(self) -> bool:
        """Whether the hand-over in hand is to stop."""
        return self._end.is_set()

    def close(self) -> None:
        """Ends with the file in hand. The rest is found again at the next start."""
        with self._changed:
            self._end.set()
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while (studies := self._due()) is not None:
            try:
                self._take_in(studies)
            except Exception as error:  # of ours or not: what has arrived must not be forgotten
                known = isinstance(error, WardroundError)
                log("studies not indexed", why=str(error) if known else type(error).__name__)
                with self._changed:
                    for study in studies:
                        self._last.setdefault(study, time.monotonic())
            else:
                self.handed_over += len(studies)

    def _due(self) -> list[Path] | None:
        """Waits for studies that have been quiet for long enough; None at the end."""
        with self._changed:
            while not self._end.is_set():
                now = time.monotonic()
                soonest = min(self._last.values(), default=None)
                if soonest is not None and now - soonest >= self._quiet + self._together:
                    quiet = [s for s, last in self._last.items() if now - last >= self._quiet]
                    for study in quiet:
                        del self._last[study]
                    return quiet
                left = None if soonest is None else soonest + self._quiet + self._together - now
                self._changed.wait(left)
            return None
