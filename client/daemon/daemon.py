"""The site's daemon: it answers the coordinator's questions until it is stopped.

    starting   open keys, ledger and audit log, set limits, hear whether a patient's term is that
               patient's alone on this machine (trial.py), reopen accepted studies
    serving    receive -> LazySite.answer -> reply, several studies at once (workers.py); a lost
               connection is made again
    stopping   finish the answers in hand, and wait for the Collects of attempts that this site has
               paid for, so that a restart loses no round

`client.governance.governance` alone decides what may be answered, and what it costs.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial

from client.config.resource_limits import limit_memory
from client.config.site_config import SiteConfig
from client.config.site_decisions import SiteDecisions
from client.daemon.answers.precedence import Precedence
from client.daemon.answers.stored_answers import FOLDER, StoredAnswers
from client.daemon.answers.workers import Workers
from client.daemon.lazy_site import LazySite
from client.daemon.metrics import Metrics
from client.daemon.observer import Observer
from client.daemon.status import Status, StatusBoard, utc
from client.daemon.systemd import notify
from client.daemon.watchdog import StatusReporter
from client.enrolment.decision_feed import DecisionFeed
from client.enrolment.roster_feed import RosterFeed
from client.governance.audit_replay import AuditEvent
from client.governance.budget import budget
from client.governance.governance import SiteGovernance
from client.log_events import event
from client.prediction.fetched_models import FetchedModels
from client.training.algorithm_state import sweep
from client.transport.coordinator_clock import CoordinatorClock
from client.transport.fleet_config import FleetConfig
from client.transport.fleet_connection import FleetConnection, IncomingMessage, NewsListener
from client.transport.http_connection import CallInterrupted
from client.transport.node_key import load_node_key
from protocol.errors import Code, WardroundError
from protocol.extras import Extra, require
from protocol.housekeeping import Housekeeping
from protocol.release import RELEASE
from protocol.study.study import Study
from protocol.wire import messages
from protocol.wire.enrolment import expiry
from protocol.wire.flower_encoding import DECISIONS, ROSTER

_WAIT = 20.0
"""Seconds for which one `receive` waits, and a stopping daemon for the sum that it paid for."""
_SLACK = 120.0
"""Seconds beyond its time after which a wait or an answer counts as hung."""
_PERMANENT = frozenset({Code.TLS, Code.NODE_KEY, Code.FLWR_VERSION})
"""Errors of the first connection that no waiting would cure. A clock, here or at the coordinator,
is set right by NTP."""


class Daemon:
    """The daemon of one site.yaml."""

    def __init__(self, config: SiteConfig, checked: Callable[[], None]) -> None:
        """checked: waits for the self-check (`Trial.end`), and raises WardroundError where this
        daemon cannot serve its policy."""
        self.config, self._checked = config, checked
        self.board = StatusBoard(
            Status(
                site=config.site,
                coordinator=config.coordinator.address,
                version=RELEASE,
                pid=os.getpid(),
                started=utc(),
                updated=utc(),
                rules=config.policy.digest,
            )
        )
        self._stopping = threading.Event()
        self._ending = threading.Event()
        """No other question is received."""
        self._has_work: Callable[[], bool] = lambda: False
        self._hang_up: Callable[[], None] = lambda: None

    def stop(self) -> None:
        """Stops the daemon, from another thread. The second call ends even a paid attempt."""
        again = self._stopping.is_set()
        self._stopping.set()
        self._end_if(again)

    def _end_if(self, now: bool = False) -> None:
        """Ends the loop if it is to stop: at once with `now`, else once nothing is left to do."""
        if self._stopping.is_set() and (now or not self._has_work()):
            self._ending.set()
            self._hang_up()

    def run(self) -> None:
        """Serves until stopped. Raises WardroundError where keys, state folder, limits or the first
        connection do not let it begin."""
        config, policy = self.config, self.config.policy
        identity = config.load_identity()
        load_node_key(config.node_key)  # refused here, before the state folder is locked
        if config.imaging is not None:
            require(Extra.IMAGING)
        with ExitStack() as stack:
            observer = Observer(self.board)
            fleet_config = FleetConfig.of(config)
            governance = SiteGovernance(
                config,
                identity,
                daemon=True,
                second_clock=CoordinatorClock(fleet_config),
                notify=observer,
            )
            stack.callback(governance.close_state)
            threading.Thread(
                target=_compose_past, args=(governance,), name="past", daemon=True
            ).start()
            reporter = stack.enter_context(StatusReporter(config.state, self.board))
            answers = StoredAnswers(config.state / FOLDER)
            precedence = Precedence()
            site = LazySite(config, identity, governance, answers, precedence.give_way)
            limit_memory(policy)
            self._checked()
            running = _reopen(governance, site.reopen)
            with Housekeeping(_note).task("sweep"):  # what stays is swept at the next start
                kept = running | governance.approvals.resting()
                sweep(config.state, kept)
                answers.sweep(kept)
            if config.metrics is not None:
                stack.enter_context(Metrics(config.metrics, self.board, governance, reporter))
            news: dict[str, NewsListener] = {
                ROSTER: RosterFeed(governance.roster),
                DECISIONS: DecisionFeed(SiteDecisions(config)),
            }
            fleet = FleetConnection(fleet_config, news)
            stack.enter_context(fleet)
            stack.enter_context(FetchedModels(config, fleet_config))
            workers = Workers(
                partial(self._answer_unless_stopping, partial(_answer, fleet, site, reporter)),
                policy.studies_at_once,
                rest=self._end_if,
                precedence=precedence,
            )
            self._has_work = lambda: workers.busy or observer.owes_share
            self._hang_up = fleet.close
            reporter.connection = fleet
            reporter.attention = lambda: (*governance.roster.now().attention(), *_expiry(fleet))
            self._connect_once(fleet)
            self.board.set(phase="idle")
            event("ready", site=config.site, rules=policy.digest[:12])
            notify("READY=1")
            with workers:
                self._serve(fleet, workers, reporter)
            notify("STOPPING=1")
            self.board.set(phase="stopping")
            governance.audit.append(AuditEvent.DAEMON_STOPPED)
        event("stopped", site=config.site)

    def _answer_unless_stopping(
        self, answer: Callable[[IncomingMessage], None], incoming: IncomingMessage
    ) -> None:
        """What waited for its turn, too, may not be wanted any more."""
        if self._wants(incoming):
            answer(incoming)

    def _wants(self, incoming: IncomingMessage) -> bool:
        """A daemon that stops takes in the sums that it has paid for, and endings. The rest is left
        to its next start."""
        return not self._stopping.is_set() or _ends_something(incoming)

    def _connect_once(self, fleet: FleetConnection) -> None:
        """Tries to connect, and raises what no waiting would cure, for who starts the daemon."""
        try:
            if not self._stopping.is_set():
                fleet.connect()
        except CallInterrupted:
            return
        except WardroundError as error:
            if error.code in _PERMANENT:
                raise

    def _serve(self, fleet: FleetConnection, workers: Workers, reporter: StatusReporter) -> None:
        while not self._ending.is_set():
            reporter.expect(2 * _WAIT + _SLACK)
            if not workers.has_room(_WAIT):
                continue
            incoming = fleet.receive(_WAIT)
            if incoming is not None and self._wants(incoming):
                workers.take(incoming)
            elif incoming is None and self._stopping.is_set() and not workers.busy:
                return  # nobody asks for the sum


def _expiry(fleet: FleetConnection) -> tuple[str, ...]:
    """What to say of the coordinator's certificate, as it was shown last."""
    ends = fleet.certificate_ends
    sentence = "" if ends is None else expiry((ends - time.time()) / 86400)
    return (sentence,) if sentence else ()


def _answer(
    fleet: FleetConnection, site: LazySite, reporter: StatusReporter, incoming: IncomingMessage
) -> None:
    left = incoming.seconds_left
    if left <= 0:
        event("late question dropped", logging.WARNING)
        return fleet.drop(incoming)
    with reporter.expecting(left + _SLACK):
        try:
            if not fleet.reply(incoming, site.answer(incoming.frame)):
                event("answer no longer wanted", logging.WARNING)
        except WardroundError as error:
            event("answer not sent", logging.WARNING, code=error.code.value, why=error.message)


def _ends_something(incoming: IncomingMessage) -> bool:
    """Whether it asks for the sum of an attempt, or says that a study has ended."""
    try:
        return isinstance(messages.parse(incoming.frame), messages.Collect | messages.Close)
    except WardroundError:
        return False


def _compose_past(governance: SiteGovernance) -> None:
    """Composes what was spent before, ahead of the first proposal: where nothing of it is kept (the
    cache was deleted, or an upgrade changed the accounting), a minute for a thousand studies."""
    started = time.monotonic()
    with suppress(WardroundError):  # whoever asks for the budget next is told
        budget(governance.state, governance.policy)
        event("past composed", seconds=round(time.monotonic() - started, 1))


def _reopen(governance: SiteGovernance, reopen: Callable[[Study], None]) -> set[str]:
    """Reopens every accepted study. Returns their digests."""
    accepted = governance.approvals.accepted()
    for study in accepted:
        reopen(study)
    return {study.digest for study in accepted}


def _note(task: str, why: str) -> None:
    event("not done", logging.WARNING, task=task, why=why)
