"""Four hospitals on this machine: the real site code and the real Fleet client, in threads."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from client.config.known_roster import KnownRoster
from client.daemon.site import Site, StandingState
from client.transport.fleet_config import FleetConfig
from client.transport.fleet_connection import FleetConnection
from client.transport.node_key import create_node_key
from launch.config.compose import load, plain
from launch.federations.deployment import RemoteFederation
from launch.federations.inprocess import SimulatedGovernance, cohorts_of
from launch.studies.run import declared_patients, split_plan
from launch.studies.study_builder import build_study
from protocol.errors import Code, WardroundError
from protocol.identity import Identity
from protocol.study.study import Study
from protocol.wire import messages
from protocol.wire.enrolment import EnrolmentCard
from protocol.wire.messages import Ending
from server.coordinator.config import CoordinatorConfig
from server.coordinator.journal import Journal
from server.coordinator.service import Coordinator
from server.coordinator.setup import create
from server.enrolment.accounts import Accounts, Credentials, issue
from server.enrolment.roster import Roster
from tasks import registry
from tests.waiting import HUNG

TASK = "breast_cancer"
PLAIN = (
    "task=breast_cancer",
    "privacy=none",
    "evaluation=exact",
    "tracking=off",
    "federation=deployment",
)


class NotingGovernance(SimulatedGovernance):
    """Remembers what studies there are, and what it was told last of each."""

    def __init__(self) -> None:
        super().__init__()
        self.studies: dict[str, Study] = {}
        self.told: dict[str, Ending] = {}

    def propose(self, study: Study) -> tuple[StandingState, Code | None]:
        self.studies[study.digest] = study
        return super().propose(study)

    def known(self, digest: str) -> Study | None:
        return self.studies.get(digest)

    def close(self, study: Study, outcome: Ending) -> None:
        self.told[study.digest] = outcome


class Hospitals:
    """Site name -> keys and cohort; `connect` starts a thread each, `disconnect` ends them.

    `hold` lets none of them begin a certain round, until `let_go`.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        task = registry.load(TASK)
        config = load(PLAIN)
        self.cohorts = cohorts_of(task, task.public_sites(None), split_plan(config))
        self.patients = declared_patients(self.cohorts)
        self._identities = {name: Identity.generate() for name in self.cohorts}
        self._keys = {name: create_node_key(folder / f"{name}.pem") for name in self.cohorts}
        self.governance = {name: NotingGovernance() for name in self.cohorts}
        self._stopping = threading.Event()
        self._held_from: int | None = None
        self._let_go = threading.Event()
        self.holding = threading.Event()
        """One of them has been asked for the round from which they are held."""
        self._threads: list[threading.Thread] = []
        self.connections: list[FleetConnection] = []

    @property
    def names(self) -> list[str]:
        return sorted(self.cohorts)

    def card(self, name: str) -> EnrolmentCard:
        return EnrolmentCard(
            site=name,
            identity=self._identities[name].public_key.hex(),
            node_key=self._keys[name].decode(),
        )

    def enrol(self, roster: Roster) -> None:
        for name in self.names:
            roster.add(self.card(name), self.patients[name])

    def connect(self, address: str, ca: Path, names: list[str] | None = None) -> None:
        for name in names or self.names:
            config = FleetConfig(address, ca, self._folder / f"{name}.pem", heartbeat=10)
            connection = FleetConnection(config)
            self.connections.append(connection)
            thread = threading.Thread(target=self._serve, args=(name, connection), daemon=True)
            self._threads.append(thread)
            thread.start()

    def hold(self, round_: int) -> None:
        self._held_from = round_

    def let_go(self) -> None:
        self._let_go.set()

    def disconnect(self) -> None:
        self._stopping.set()
        self.let_go()
        for connection in self.connections:
            connection.close()
        for thread in self._threads:
            thread.join(HUNG)

    def _serve(self, name: str, connection: FleetConnection) -> None:
        roster = {other: key.public_key.hex() for other, key in self._identities.items()}
        cohort = self.cohorts[name]
        site = Site(
            name,
            self._identities[name],
            KnownRoster(roster),
            self.governance[name],
            lambda task, study: cohort,
        )
        with connection:
            while not self._stopping.is_set():
                try:
                    delivery = connection.receive(wait=1)
                    if delivery is not None:
                        self._pass(messages.parse(delivery.frame))
                        connection.reply(delivery, site.answer(delivery.frame))
                except WardroundError:
                    continue

    def _pass(self, asked: messages.Request | messages.Answer) -> None:
        if isinstance(asked, messages.Prepare) and asked.round == self._held_from:
            self.holding.set()
            self._let_go.wait()


def study_of(patients: Mapping[str, int], *overrides: str) -> tuple[Study, dict[str, object]]:
    """A study without noise, masked, and its configuration."""
    config = load([*PLAIN, *overrides])
    return build_study(config, registry.load(config.task.name), patients), plain(config)


def new_coordinator(folder: Path, port: int = 0, tracking: str | None = None) -> CoordinatorConfig:
    return create(folder, ["127.0.0.1"], port, tracking, "Test")


def credentials(config: CoordinatorConfig, address: str, name: str) -> Path:
    """A new account's credentials file, beside the coordinator's folder."""
    path = config.folder.parent / f"{name}.json"
    ca = config.pki.ca_certificate.read_text()
    token = Accounts(config.accounts).add(name)
    issue(path, Credentials(coordinator=address, ca=ca, account=name, token=token))
    return path


@dataclass
class Deployment:
    """A coordinator in this process, served by a thread, and its hospitals."""

    config: CoordinatorConfig
    coordinator: Coordinator
    hospitals: Hospitals

    def connect(self, names: list[str] | None = None) -> None:
        ca = self.config.pki.ca_certificate
        self.hospitals.connect(self.coordinator.address, ca, names)

    def account(self, name: str) -> RemoteFederation:
        return RemoteFederation(credentials(self.config, self.coordinator.address, name))


@contextmanager
def deployed(folder: Path, tracking: str | None = None) -> Iterator[Deployment]:
    """Enrolled and not yet connected. tracking: an MLflow server."""
    config = new_coordinator(folder / "coordinator", tracking=tracking)
    hospitals = Hospitals(folder / "hospitals")
    hospitals.enrol(Roster(config.roster))
    ending = threading.Event()
    with Coordinator(config, Journal(config.event_log, console=None)) as coordinator:
        serving = threading.Thread(target=coordinator.serve, args=(ending,))
        serving.start()
        try:
            yield Deployment(config, coordinator, hospitals)
        finally:
            hospitals.disconnect()
            ending.set()
            serving.join()
