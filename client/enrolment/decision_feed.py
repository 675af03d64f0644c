"""Takes the coordinator's decisions about models in as they come with answers to the daemon."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from client.config.site_decisions import SiteDecisions
from client.log_events import event
from protocol.errors import WardroundError
from protocol.models.decision import DecisionNews

_AGAIN = 60.0
"""Seconds after a refused record until the coordinator is asked again."""


class DecisionFeed:
    """A `client.transport.fleet_connection.NewsListener` that keeps what it hears."""

    def __init__(
        self, decisions: SiteDecisions, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._decisions, self._clock = decisions, clock
        self._not_before = 0.0
        self._said = ""

    def known(self) -> int | None:
        """How many decisions this site has; None where it does not want to hear of more now."""
        if self._clock() < self._not_before or not self._decisions.hears:
            return None
        try:
            return self._decisions.now().number
        except WardroundError as error:
            self._refuse(error)
            return None

    def heard(self, value: str) -> None:
        """Takes in a header field. Never raises: what is refused is logged."""
        try:
            before = self._decisions.now().number
            self._decisions.receive(DecisionNews.from_field(value))
            new = self._decisions.now().entries[before:]
        except WardroundError as error:
            self._refuse(error)
            return
        self._said = ""
        for one in new:
            said = one.decision
            event("model " + said.verdict, model=f"{said.model}/{said.version}", by=said.reviewer)

    def _refuse(self, error: WardroundError) -> None:
        self._not_before = self._clock() + _AGAIN
        if error.message != self._said:
            self._said = error.message
            why = {"code": error.code.value, "why": error.message, "do": error.remedy}
            event("decisions refused", logging.WARNING, **why)
