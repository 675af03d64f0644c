"""Sends MLflow what it did not take while studies ran, as soon as it is back.

So no run stays open, and nobody has to do anything: not the data scientist, and not the operator.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

from protocol.errors import WardroundError
from protocol.identity import Identity
from server.tracking.tracker import deliver_stored

_PAUSE = 30.0
"""Seconds between two tries."""


class Settlement:
    """A thread of its own, inside `with`."""

    def __init__(
        self,
        folder: Path,
        uri: str,
        signer: Identity,
        report: Callable[[str, str], None],
        pause: float = _PAUSE,
    ) -> None:
        """folder: with a folder for each study that waits. uri: of MLflow. report: (study, "" or
        why it still waits), once at each change."""
        self._folder, self._uri, self._signer = folder, uri, signer
        self._report, self._pause = report, pause
        self._reported: dict[str, str] = {}
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work, name="settlement", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ends at once; what is being sent is sent again by the next coordinator."""
        self._ending.set()

    def settle(self) -> None:
        """Tries everything that waits, once. Never raises."""
        for folder in sorted(self._folder.glob("[!.]*")):
            if self._ending.is_set():
                return
            try:
                if deliver_stored(folder, self._uri, self._signer):
                    self._report_once(folder.name, "")
            except WardroundError as error:
                self._report_once(folder.name, error.message)
            except Exception as error:
                self._report_once(folder.name, type(error).__name__)

    def _work(self) -> None:
        while not self._ending.is_set():
            self.settle()
            self._ending.wait(self._pause)

    def _report_once(self, study: str, why: str) -> None:
        if self._reported.get(study) != why:
            self._reported[study] = why
            self._report(study, why)
