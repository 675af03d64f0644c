"""Takes the coordinator's roster in as it comes with answers to the daemon's calls."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from client.config.site_roster import SiteRoster
from client.log_events import event
from protocol.errors import WardroundError
from protocol.wire.roster import RosterNews

_AGAIN = 60.0
"""Seconds after a refused roster until the coordinator is asked again."""


class RosterFeed:
    """A `client.transport.fleet_connection.NewsListener` that keeps what it hears."""

    def __init__(self, roster: SiteRoster, clock: Callable[[], float] = time.monotonic) -> None:
        self._roster, self._clock = roster, clock
        self._not_before = 0.0
        self._said = ""

    def known(self) -> int | None:
        """How many changes this site has; None where it does not want to hear of more now."""
        if self._clock() < self._not_before:
            return None
        try:
            return self._roster.now().history.number if self._roster.signer else None
        except WardroundError as error:
            self._refuse(error)
            return None

    def heard(self, value: str) -> None:
        """Takes in a header field. Never raises: what is refused is logged, and stands in the
        site's status until the coordinator says otherwise."""
        try:
            before = self._roster.now()
            self._roster.receive(RosterNews.from_field(value))
            now = self._roster.now()
        except WardroundError as error:
            self._refuse(error)
            return
        self._said = ""
        if now.history.version != before.history.version:
            event("roster", changes=now.history.number, version=now.history.version[:12])
            for site in now.to_confirm():
                do = f"compare its fingerprint by telephone, then: roster confirm {site}"
                event("not confirmed", logging.WARNING, site=site, do=do)

    def _refuse(self, error: WardroundError) -> None:
        self._not_before = self._clock() + _AGAIN
        if error.message != self._said:
            self._said = error.message
            why = {"code": error.code.value, "why": error.message, "do": error.remedy}
            event("roster refused", logging.WARNING, **why)
