"""The interface through which a study reports to progress display, tracking and event stream."""

from __future__ import annotations

from typing import Literal, Protocol

from server.outcome import Outcome, RoundReport

Reason = Literal["offline", "approval", "hours", "trouble", "suspects", "unconfirmed"]
"""Why a study waits for sites. trouble: with their disk, ledger or clock. suspects: at least one of
them makes sums impossible, it cannot be found out which, and the study goes on when some of them
are away. unconfirmed, with sentences: keys that operators have not compared yet, so that these
sites are not asked for the same sum."""


class Listener(Protocol):
    """Called from the thread that runs the rounds; must return at once.

    A class that inherits it overrides what it wants to hear; the rest does nothing.
    """

    def waiting(self, why: Reason, sites: tuple[str, ...]) -> None:
        """The study waits for, or because of, these sites (empty: it waits no longer)."""
        return

    def lost(self, round_: int, attempt: int, why: str) -> None:
        """An attempt was lost; it stays charged, and another one follows."""
        return

    def round(self, report: RoundReport) -> None:
        """A round was opened."""
        return

    def finish(self, outcome: Outcome) -> None:
        """The study has ended."""
        return


class Listeners(Listener):
    """Several listeners as one."""

    def __init__(self, *listeners: Listener) -> None:
        self._listeners = listeners

    def waiting(self, why: Reason, sites: tuple[str, ...]) -> None:
        for listener in self._listeners:
            listener.waiting(why, sites)

    def lost(self, round_: int, attempt: int, why: str) -> None:
        for listener in self._listeners:
            listener.lost(round_, attempt, why)

    def round(self, report: RoundReport) -> None:
        for listener in self._listeners:
            listener.round(report)

    def finish(self, outcome: Outcome) -> None:
        for listener in self._listeners:
            listener.finish(outcome)
