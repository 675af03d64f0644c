"""The site's one warm process: take a question, answer it, until told to stop.

    starting   keys, ledger and audit log, libraries, studies open from before, limits
    serving    receive -> Site.answer -> reply; the connection mends itself
    stopping   the answer in hand is finished, and an attempt that this site has paid for is
               brought to its end, so that a restart loses no round

What may be answered, and what it costs, is decided by `client.governance.governance` alone.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

import torch

from client.cohorts.loading import build_query_contributor, loader
from client.config.resource_limits import gradient_memory, limit_memory
from client.config.site_config import SiteConfig
from client.daemon.metrics import Metrics
from client.daemon.observer import Observer
from client.daemon.site import Site
from client.daemon.status import Board, Status, utc
from client.daemon.systemd import notify
from client.daemon.watchdog import StatusReporter
from client.data.cohort import Cohort
from client.governance.audit_replay import AuditEvent
from client.governance.governance import SiteGovernance
from client.log_events import event
from client.training.algorithm_state import algorithm_state_in, sweep
from client.transport.fleet_connection import Delivery, FleetConfig, FleetConnection
from client.transport.http_connection import Interrupted
from client.transport.node_key import load_node_key
from protocol.errors import Code, WardroundError
from protocol.release import RELEASE
from protocol.study.study import Study
from protocol.wire import messages
from tasks import registry

_WAIT = 20.0
"""Seconds for which one `receive` waits, and a stopping daemon for the sum that it paid for."""
_SLACK = 120.0
"""Seconds beyond its time after which a wait or an answer counts as hung."""
_HOPELESS = frozenset({Code.TLS, Code.NODE_KEY, Code.CLOCK, Code.FLWR_VERSION})
"""What a first attempt to connect may fail with that waiting does not mend."""


class Daemon:
    """One site under one site.yaml."""

    def __init__(self, config: SiteConfig) -> None:
        self.config = config
        self.board = Board(
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
        self._listening = False
        self._owing: Callable[[], bool] = lambda: False
        self._hang_up: Callable[[], None] = lambda: None

    def stop(self) -> None:
        """Asks the daemon to end, from another thread. Asked twice, it waits for no sum."""
        hurry = self._stopping.is_set()
        self._stopping.set()
        if hurry or (self._listening and not self._owing()):
            self._hang_up()

    def run(self) -> None:
        """Serves until stopped. Raises WardroundError where it cannot begin: what keys, state
        folder, limits or the first attempt to connect find wrong."""
        config, policy = self.config, self.config.policy
        identity = config.load_identity()
        load_node_key(config.node_key)  # refused here, before the state folder is held
        torch.set_num_threads(policy.threads)
        with ExitStack() as stack:
            observer = Observer(self.board)
            governance = SiteGovernance(config, identity, daemon=True, notify=observer)
            stack.callback(governance.close_state)
            watch = stack.enter_context(StatusReporter(config.state, self.board))
            site = Site(
                config.site,
                identity,
                config.roster,
                governance,
                loader(config, governance.state.split.place, _noted),
                respondent=partial(build_query_contributor, config),
                keep=lambda study: algorithm_state_in(
                    config.state, study.digest, study.model.parameters
                ),
                allow_unmasked=policy.unmasked,
                memory=gradient_memory(policy),
            )
            for task in policy.tasks:
                registry.load(task)
            sweep(config.state, _reopen(governance, site))
            limit_memory(policy)
            if config.metrics is not None:
                stack.enter_context(Metrics(config.metrics, self.board, governance, watch))
            fleet = FleetConnection(
                FleetConfig(
                    config.coordinator.address,
                    config.coordinator.root_certificate,
                    config.node_key,
                )
            )
            stack.enter_context(fleet)
            self._owing, self._hang_up = (lambda: observer.owing), fleet.close
            watch.connection = fleet
            self._first_contact(fleet)
            self.board.set(phase="idle")
            event("ready", site=config.site, rules=policy.digest[:12])
            notify("READY=1")
            self._serve(fleet, site, watch)
            notify("STOPPING=1")
            self.board.set(phase="stopping")
            governance.audit.append(AuditEvent.DAEMON_STOPPED)
        event("stopped", site=config.site)

    def _first_contact(self, fleet: FleetConnection) -> None:
        """Connects once, to say at the keyboard what no waiting would mend."""
        self._listening = True
        try:
            if not self._stopping.is_set():
                fleet.connect()
        except Interrupted:
            return
        except WardroundError as error:
            if error.code in _HOPELESS:
                raise
        finally:
            self._listening = False

    def _serve(self, fleet: FleetConnection, site: Site, watch: StatusReporter) -> None:
        while not self._parted():
            watch.expect(_WAIT + _SLACK)
            self._listening = True  # before the check: whoever stops from here on hangs up
            delivery = None if self._parted() else fleet.receive(_WAIT)
            self._listening = False
            if self._stopping.is_set() and not (delivery and _collects(delivery)):
                return
            if delivery is not None:
                watch.expect(max(0.0, delivery.seconds_left) + _SLACK)
                _answer(fleet, site, delivery)

    def _parted(self) -> bool:
        return self._stopping.is_set() and not self._owing()


def _answer(fleet: FleetConnection, site: Site, delivery: Delivery) -> None:
    if delivery.seconds_left <= 0:
        event("late question dropped", logging.WARNING)
        return
    try:
        if not fleet.reply(delivery, site.answer(delivery.frame)):
            event("answer no longer wanted", logging.WARNING)
    except WardroundError as error:
        event("answer not sent", logging.WARNING, code=error.code.value, why=error.message)


def _collects(delivery: Delivery) -> bool:
    try:
        return isinstance(messages.parse(delivery.frame), messages.Collect)
    except WardroundError:
        return False


def _reopen(governance: SiteGovernance, site: Site) -> set[str]:
    """The site takes up every study accepted before this start. Returns their digests."""
    accepted = governance.approvals.accepted()
    for study in accepted:
        site.reopen(study)
    return {study.digest for study in accepted}


def _noted(study: Study, cohort: Cohort) -> None:
    event("cohort loaded", study=study.digest, task=study.task.name)
    for note in cohort.notes:
        event("cohort", logging.WARNING, study=study.digest, note=note)
