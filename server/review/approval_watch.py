"""Brings decisions to MLflow as they are taken, finds approvals there that nobody signed, and has
the bundles of approved models offered to the sites."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Self

from protocol.errors import WardroundError
from server.review.decisions import Decisions
from server.review.offers import Offers
from server.review.registry_follower import UnsignedApproval, follow

PAUSE = 20.0
"""Seconds between two looks; a decision is brought at once."""
_BEAT = 0.5
_NEVER = -1
Report = Callable[[tuple[UnsignedApproval, ...], str], None]
"""Is told which approvals are not signed, and why MLflow could not be asked, "" where it could."""


class ApprovalWatch:
    """A thread of its own, inside `with`: MLflow may hang without holding anybody else up."""

    def __init__(
        self, decisions: Decisions, offers: Offers, uri: str, report: Report, pause: float = PAUSE
    ) -> None:
        """uri: of MLflow. report: called after each look. pause: seconds between two."""
        self._decisions, self._offers, self._uri = decisions, offers, uri
        self._report, self._pause = report, pause
        self._found: tuple[UnsignedApproval, ...] = ()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work, name="approvals", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ends at once; what was not brought is brought by the next coordinator."""
        self._ending.set()

    def look(self) -> int:
        """Once; how many decisions MLflow shows then, _NEVER where it could not be asked."""
        try:
            history = self._decisions.history
            self._found = follow(self._uri, history)
            self._offers.follow(self._uri, history)
        except WardroundError as error:
            self._report(self._found, error.message)
        except Exception as error:  # MLflow's own, whose text may quote an address with a password
            self._report(self._found, f"MLflow does not answer ({type(error).__name__})")
        else:
            self._report(self._found, "")
            return history.number
        return _NEVER

    def _work(self) -> None:
        shown, looked = _NEVER, time.monotonic() - self._pause
        while not self._ending.wait(_BEAT):
            due = time.monotonic() - looked >= self._pause
            if due or (shown != _NEVER and self._number() != shown):
                shown, looked = self.look(), time.monotonic()

    def _number(self) -> int:
        try:
            return self._decisions.history.number
        except WardroundError:
            return _NEVER
