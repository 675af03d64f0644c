"""What time it is at the coordinator, for a site whose own clock went back."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from client.transport.fleet_config import FleetConfig
from client.transport.http_connection import CallInterrupted, HttpConnection, tls
from protocol.errors import WardroundError

_TIMEOUT = 10.0
_AGE = 30.0
"""Seconds for which an answer counts; so often is it asked at most."""
_LIMIT = 64 * 1024


class CoordinatorClock:
    """The date of any answer of the coordinator, over TLS."""

    def __init__(self, config: FleetConfig) -> None:
        self._config = config
        self._asked: float | None = None
        self._heard: datetime | None = None

    def __call__(self) -> datetime | None:
        """The time there, in UTC, to a second or so; None where it does not say. At most every
        half minute it is asked, and waited for some seconds."""
        now = time.monotonic()
        if self._asked is None or now - self._asked > _AGE:
            self._heard, self._asked = self._ask(), time.monotonic()
            return self._heard
        return self._heard and self._heard + timedelta(seconds=now - self._asked)

    def _ask(self) -> datetime | None:
        line = None
        try:
            context = tls(self._config.root_certificate, self._config.private_ca)
            line = HttpConnection(self._config.route, context)
            return line.call("/v1/fleet/activate-node", b"", {}, _TIMEOUT, _LIMIT).date
        except (WardroundError, CallInterrupted):
            return None
        finally:
            if line is not None:
                line.close()
