"""A real coordinator in this process and real hospitals in threads, for cases that need all of it.

Each hospital has its own site.yaml, keys, policy, approvals, ledger and audit log, and speaks to
the coordinator through the Fleet client over TLS on loopback:

    with Federation(tmp_path / "federation") as federation:
        federation.start()
        for name in federation.names:
            Hospital(federation, name)
        federation.online(4)
        study, configuration = federation.study(federation.patients(), *WORDS, "rounds=3")
        digest = federation.submit(study, configuration)
        last = federation.wait_end(digest)

Leaving the `with` block ends every thread that was started here. What does not come about in time
raises TimeoutError and never AssertionError, so that no test is expected to fail by its set-up.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from client.cohorts.loading import build_query_contributor, loader
from client.config.site_config import SiteConfig
from client.daemon.answers.stored_answers import FOLDER, StoredAnswers
from client.daemon.daemon import _reopen
from client.daemon.site import Site
from client.enrolment import new_site
from client.enrolment.roster_feed import RosterFeed
from client.enrolment.rotation import successor
from client.governance.governance import SiteGovernance
from client.training.algorithm_state import algorithm_state_in
from client.training.devices.choice import candidates
from client.transport.fleet_config import FleetConfig
from client.transport.fleet_connection import FleetConnection
from launch.config.compose import load, plain
from launch.demo.consortium import CREDENTIALS, federate
from launch.demo.hospitals import answers, write_csv
from launch.federations.deployment import RemoteFederation
from launch.studies.study_builder import build_study
from protocol.errors import WardroundError
from protocol.study.study import Study
from protocol.wire import messages
from protocol.wire.flower_encoding import ROSTER
from server.coordinator.config import FILE, CoordinatorConfig
from server.coordinator.journal import Journal
from server.coordinator.service import Coordinator
from server.coordinator.study_events import ENDS
from server.enrolment.roster import Roster
from tasks import registry
from tests.waiting import HUNG, until

TASK = registry.load("breast_cancer")
SITES = ("east", "north", "south", "west")
WORDS = (
    "privacy=local",
    "privacy.epsilon=20",
    "privacy.delta=1e-3",
    "local_steps=1",
    "tracking=off",
)
"""A study with noise that is over quickly."""
_PATIENTS = 100
"""Declared by each hospital."""


class Federation:
    """A coordinator with enrolled hospitals in `folder`, where nothing runs before `start`."""

    def __init__(
        self,
        folder: Path,
        names: Iterable[str] = SITES,
        waiting: Mapping[str, float] | None = None,
    ) -> None:
        """waiting: what coordinator.yaml shall say under `waiting`, beside what `init` writes."""
        self.base, self.names = folder, list(names)
        folder.mkdir(parents=True)
        (folder / "data").mkdir()
        tables = list(TASK.public_sites(None).values())
        for number, name in enumerate(self.names):
            write_csv(tables[number % len(tables)], self._data(name))
            self._found(name)
        self.config = federate(folder, dict.fromkeys(self.names, _PATIENTS))
        if waiting:
            file = self.config.folder / FILE
            values = yaml.safe_load(file.read_text())
            values["waiting"] |= waiting
            file.write_text(yaml.safe_dump(values))
            self.config = CoordinatorConfig.load(self.config.folder)
        self.credentials = folder / CREDENTIALS
        self.hospitals: list[Hospital] = []
        """Those that have not been closed yet."""
        self.died: list[str] = []
        """What ended `Coordinator.serve` before its time."""
        self._ending = threading.Event()
        self._running = ExitStack()
        self._built: dict[object, tuple[Study, dict[str, Any]]] = {}

    def _data(self, name: str) -> Path:
        return self.base / "data" / f"{name}.csv"

    def site_yaml(self, name: str) -> Path:
        return self.base / name / new_site.SITE_YAML

    def enrol(self, name: str) -> None:
        """Makes a hospital's folder and puts it on the roster; no bundle is given out."""
        self._found(name)
        card = new_site.card(SiteConfig.load(self.site_yaml(name)))
        Roster(self.config.roster).add(card, _PATIENTS)

    def _found(self, name: str) -> None:
        """Makes a hospital's folder."""
        data = self._data(name) if self._data(name).exists() else self._data(self.names[0])
        told = replace(
            answers(name, TASK, data),
            epsilon_per_study=1e3,
            epsilon_lifetime=9e3,
            epsilon_broken=9e3,
        )
        new_site.init(self.base / name, told)

    # --- the coordinator's life ---
    def start(self) -> Self:
        """Starts the coordinator, and a thread that serves it."""
        with ExitStack() as stack:
            journal = Journal(self.config.event_log, console=None)
            stack.callback(journal.close)
            self.coordinator = stack.enter_context(Coordinator(self.config, journal))
            self._ending = threading.Event()
            self.serving = threading.Thread(
                target=self._serve, args=(self.coordinator, self._ending), daemon=True
            )
            self.serving.start()
            stack.callback(self.serving.join, HUNG)
            stack.callback(self._ending.set)
            self._running = stack.pop_all()
        return self

    def _serve(self, coordinator: Coordinator, ending: threading.Event) -> None:
        try:
            coordinator.serve(ending)
        except BaseException as error:
            self.died.append(repr(error)[:200])

    def stop(self) -> None:
        """Stops the coordinator; `start` goes on with what it left."""
        self._running.close()

    def close(self) -> None:
        """Ends all that was started. May be called twice."""
        with ExitStack() as stack:
            stack.callback(self.stop)
            for hospital in self.hospitals:
                stack.callback(hospital.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- the data scientist ---
    def remote(self) -> RemoteFederation:
        return RemoteFederation(self.credentials, patience=300)

    def patients(self) -> dict[str, int]:
        with self.remote() as remote:
            return remote.patients()

    def study(
        self, patients: Mapping[str, int], *words: str, title: str = "t"
    ) -> tuple[Study, dict[str, Any]]:
        """A study of TASK and its configuration. The same study each time, but for its title."""
        key = (tuple(sorted(patients.items())), words)
        if key not in self._built:
            config = load([f"task={TASK.name}", "federation=deployment", *words])
            self._built[key] = (build_study(config, TASK, patients), plain(config))
        study, configuration = self._built[key]
        return Study.model_validate(study.model_dump() | {"title": title}), configuration

    def submit(self, study: Study, configuration: Mapping[str, Any]) -> str:
        """The study's digest."""
        with self.remote() as remote:
            return remote.submit(study, configuration, {"experiment": "e"})

    def pinned(self, study: Study) -> Study:
        with self.remote() as remote:
            return remote.pinned(study)

    # --- how it goes ---
    def online(self, sites: int) -> None:
        """Returns once so many sites are connected."""
        until(lambda: len(self.coordinator.link.online()) >= sites, f"{sites} sites online")

    def events(self, digest: str) -> list[dict[str, Any]]:
        """What the study's file of events says; nothing while a line is being written."""
        path = self.config.state / "studies" / digest / "events.jsonl"
        try:
            return [json.loads(line) for line in path.read_text().splitlines()]
        except (OSError, ValueError):
            return []

    def rounds(self, digest: str) -> int:
        """Rounds that are done."""
        events = self.events(digest)
        return max((event["round"] for event in events if event["type"] == "round"), default=0)

    def end(self, digest: str, after: int = 0) -> dict[str, Any] | None:
        """The event that ended the study, among those that follow the first `after`."""
        events = self.events(digest)
        return events[-1] if len(events) > after and events[-1]["type"] in ENDS else None

    def wait_round(self, digest: str, number: int) -> bool:
        """Whether the study got so far before it ended, or hung."""
        with suppress(TimeoutError):
            until(lambda: self.rounds(digest) >= number or self.end(digest), f"round {number}")
        return self.rounds(digest) >= number

    def wait_end(self, digest: str, after: int = 0) -> dict[str, Any]:
        """The event that ended the study, among those that follow the first `after`. Where it
        hangs, one whose type is "still running"."""
        with suppress(TimeoutError):
            until(lambda: self.end(digest, after), "the end of the study")
        return self.end(digest, after) or {"type": "still running", "code": None, "message": ""}


class Hospital:
    """One enrolled site, which answers from a thread until `close`, or until its federation is
    closed. Made again after that, it goes on as a restarted daemon does."""

    def __init__(self, federation: Federation, name: str) -> None:
        self.name = name
        self.lost_sums: set[int] = set()
        """Rounds in which one sum of this site, the next one, gets lost on the way."""
        self.leaves_in: int | None = None
        """Round that this site is asked to prepare and leaves instead, without an answer."""
        self._federation, self._stopping = federation, threading.Event()
        config = SiteConfig.load(federation.site_yaml(name))
        identity = config.load_identity()
        self.governance = SiteGovernance(config, identity, daemon=True)
        self.connection = FleetConnection(
            FleetConfig(
                config.coordinator.address, config.coordinator.root_certificate, config.node_key
            ),
            {ROSTER: RosterFeed(self.governance.roster)},
        )
        self._thread = threading.Thread(target=self._run, daemon=True)
        federation.hospitals.append(self)
        self.site = Site(
            config.site,
            identity,
            self.governance.roster,
            self.governance,
            loader(config, self.governance.state.split.place, lambda study, cohort: None),
            respondent=partial(build_query_contributor, config),
            keep=lambda study: algorithm_state_in(
                config.state, study.digest, study.model.parameters
            ),
            answers=StoredAnswers(config.state / FOLDER),
            devices=candidates(config.policy),
            successor=partial(successor, config),
        )
        _reopen(self.governance, self.site.reopen)
        self._thread.start()

    def _run(self) -> None:
        with self.connection:
            while not self._stopping.is_set():
                try:
                    delivery = self.connection.receive(wait=1)
                    if delivery is None:
                        continue
                    asked = messages.parse(delivery.frame)
                    if isinstance(asked, messages.Prepare) and asked.round == self.leaves_in:
                        return
                    answer = self.site.answer(delivery.frame)
                    if isinstance(asked, messages.Collect) and asked.round in self.lost_sums:
                        self.lost_sums.remove(asked.round)
                        continue
                    self.connection.reply(delivery, answer)
                except WardroundError:
                    continue

    def wait_left(self) -> None:
        """Returns once the site has left by itself, and closes it."""
        until(lambda: not self._thread.is_alive(), f"{self.name} has left")
        self.close()

    def close(self) -> None:
        """The site leaves; its folder stays. May be called twice."""
        if self not in self._federation.hospitals:
            return
        self._federation.hospitals.remove(self)
        self._stopping.set()
        self.connection.close()
        if self._thread.ident is not None:
            self._thread.join(HUNG)
        self.governance.close_state()
