"""/healthz and /metrics of the daemon: counts of messages, debits and bytes, and the budget."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from client.daemon.status import StatusBoard
from client.daemon.watchdog import StatusReporter
from client.governance.budget import Budget, budget
from client.governance.governance import SiteGovernance
from protocol.errors import WardroundError
from protocol.operations.monitoring import Monitoring, Sample, resident_bytes

_BUDGET_AGE = 60.0
"""Seconds for which a composed budget is served again; composing costs processor time."""


class Metrics(Monitoring):
    """The daemon's monitoring server, up inside `with`. Raises WardroundError(PORT_TAKEN)."""

    def __init__(
        self, port: int, board: StatusBoard, governance: SiteGovernance, reporter: StatusReporter
    ) -> None:
        self._board, self._governance, self._reporter = board, governance, reporter
        self._budget: tuple[float, Budget | None] = (0.0, None)
        self._composing = threading.Lock()
        super().__init__(port, self._state, self._figures)

    def _state(self) -> tuple[bool, dict[str, object]]:
        """Well while the daemon is alive and connected."""
        now, alive = self._board.now, self._reporter.alive
        body: dict[str, object] = {"site": now.site, "alive": alive, "connected": now.connected}
        body |= {"phase": now.phase, "attention": now.attention}
        return alive and now.connected, body

    def _figures(self) -> Iterator[Sample]:
        now = self._board.now

        def gauge(name: str, meaning: str, value: float, **labels: str) -> Sample:
            return Sample(f"wardround_site_{name}", "gauge", meaning, value, labels)

        def counter(name: str, meaning: str, value: float, **labels: str) -> Sample:
            return Sample(f"wardround_site_{name}", "counter", meaning, value, labels)

        yield gauge("info", "Which daemon this is.", 1, site=now.site, version=now.version)
        yield gauge("alive", "1 while the loop is heard of.", int(self._reporter.alive))
        yield gauge("connected", "1 while the coordinator answers.", int(now.connected))
        yield gauge("round", "Round of the attempt answered last; 0: none.", now.round or 0)
        yield counter("debits", "Attempts debited since the start.", now.debits)
        yield counter("sent_bytes", "Bytes of answers since the start.", now.bytes_sent)
        for kind, number in sorted(now.answers.items()):
            yield counter("answers", "Answers since the start.", number, kind=kind)
        for code, number in sorted(now.refusals.items()):
            yield counter("refusals", "Refusals since the start.", number, code=code)
        yield gauge("resident_bytes", "Memory of the daemon.", resident_bytes())
        account = self._account()
        if account is None:
            return
        delta = f"{account.delta:g}"
        yield gauge("epsilon_spent", "Epsilon of all debits ever.", account.spent, delta=delta)
        yield gauge("epsilon_reserved", "Epsilon with open plans.", account.reserved, delta=delta)
        if account.cap is not None:
            yield gauge("epsilon_cap", "The policy's cap.", account.cap, delta=delta)

    def _account(self) -> Budget | None:
        with self._composing:
            at, account = self._budget
            if account is None or time.monotonic() - at > _BUDGET_AGE:
                try:
                    account = budget(self._governance.state, self._governance.policy)
                except WardroundError:
                    return None
                self._budget = (time.monotonic(), account)
            return account
