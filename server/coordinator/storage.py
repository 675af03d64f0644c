"""A study's writes, which wait while the disk does not take them.

A full, read-only or failing disk pauses a study where it is: nothing is asked of the sites, so that
no attempt is spent, and it goes on by itself once the same write has succeeded.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from protocol.housekeeping import reason

RETRY = 1.0
"""Seconds between two tries of a write."""


class Storage:
    """The writes of one study, made by its thread."""

    def __init__(self, check: Callable[[], None], changed: Callable[[str], None]) -> None:
        """check: raises what ends the waiting. changed: told why the study is paused, "" when it
        goes on."""
        self._check, self._changed = check, changed
        self.paused = ""
        """Why the disk does not take what the study has to write; "" when it does."""

    def write(self, work: Callable[[], object]) -> None:
        """Does `work`, which may be repeated whole, until it raises no OSError."""
        while True:
            try:
                work()
            except OSError as error:
                self._note(reason(error))
            else:
                self._note("")
                return
            self._check()
            time.sleep(RETRY)

    def _note(self, why: str) -> None:
        if why != self.paused:
            self.paused = why
            self._changed(why)
