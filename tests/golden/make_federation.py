"""Part of `make.py`: a coordinator and a hospital in the middle of their work, and their twins.

A real coordinator over TLS; the hospital `north` is a real daemon with ledger and audit log, three
others are real site code without. Studies finish, are refused, rejected, revoked, cancelled, wait,
and one is left in its fifth round. The hospital's clock is set, so that its log is of the past.
"""

from __future__ import annotations

import datetime as dt
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from client.cli.main import app
from client.cli.options import governing
from client.config.site_config import SiteConfig
from client.daemon.daemon import Daemon
from client.enrolment import join, new_site
from client.enrolment.site_template import SiteAnswers
from client.governance.approvals import Approvals
from client.governance.database import SiteState
from client.governance.governance import SiteGovernance
from client.transport.node_key import create_node_key
from launch.config.compose import load, plain
from launch.demo.hospitals import write_csv
from launch.federations.deployment import RemoteFederation
from launch.queries.query_builder import build_query
from launch.queries.question import Question
from launch.studies.study_builder import build_study
from protocol.identity import Identity
from protocol.study.study import Study
from protocol.wire import messages
from protocol.wire.enrolment import EnrolmentCard
from protocol.wire.messages import Frame
from server.coordinator.config import CoordinatorConfig
from server.coordinator.journal import Journal
from server.coordinator.service import Coordinator
from server.coordinator.setup import authority, bundle, create
from server.enrolment import certificates
from server.enrolment.accounts import Accounts, Credentials, issue
from server.enrolment.roster import Roster
from tasks import registry
from tests.golden.hospitals import IDENTITY, NODE_KEY, OtherHospitals

TASK, SITE, SITES = "recovery", "north", ("east", "north", "south", "west")
PATIENTS = {"east": 70, "north": 80, "south": 60, "west": 50}
LASTING = 36_500
"""Days that these certificates are good for: a test must not depend on the day it runs on."""
WORDS = (
    "tracking=off",
    "federation=deployment",
    "privacy.delta=1e-3",
    "contact=someone@example.org",
    "evaluation.bins=16",
    "local_lr=0.2",
)
ROUNDS, STOPS_AT = 8, 5
"""Of the study that is left running: it has had the rounds below the second number."""


class Clock:
    """The hospital's clock: a Monday in the past, a quarter of a second on at every look."""

    def __init__(self) -> None:
        self._now = dt.datetime(2024, 3, 4, 9, 0, tzinfo=dt.UTC)
        self._lock = threading.Lock()

    def __call__(self) -> dt.datetime:
        with self._lock:
            self._now += dt.timedelta(milliseconds=250)
            return self._now


def set_clock() -> None:
    """Every state folder that is opened from now on goes by a `Clock`."""
    clock = Clock()
    defaults: list[Any] = [f.__kwdefaults__ for f in (SiteGovernance.__init__, SiteState.open)]
    for default in defaults:
        default["clock"] = clock


def lasting_certificates() -> None:
    """From 2020 on, and for a century."""
    certificates.CA_DAYS = LASTING
    certificates._SKEW = dt.datetime.now(dt.UTC) - dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


class Gate:
    """Holds one hospital's answers from a certain round of a certain study on."""

    def __init__(self) -> None:
        self.study, self.round = "", 0
        self.reached, self.opened = threading.Event(), threading.Event()
        self.heard: list[tuple[str, Frame]] = []
        """(study, frame), whatever went to and fro."""

    def close(self, study: Study, round_: int) -> None:
        self.reached.clear()
        self.opened.clear()
        self.study, self.round = study.digest, round_

    def __call__(self, site: str, frame: Frame, sent: bool) -> None:
        if site != "south":
            return
        message = messages.parse(frame)
        about = getattr(message, "study", None) or ""
        if isinstance(message, messages.Propose):
            about = Study.parse(message.document.encode()).digest
        self.heard.append((about, Frame(frame.header, [bytes(chunk) for chunk in frame.body])))
        place = (about, getattr(message, "round", 0))
        if isinstance(message, messages.Prepare) and place == (self.study, self.round):
            self.reached.set()
            self.opened.wait(120)


class Making:
    """The federation while it is made. `folder` gets coordinator, site, hospitals, bundle.json,
    card.json and credentials.json."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.gate = folder, Gate()
        self.task = registry.load(TASK)
        self.expected: dict[str, Any] = {}
        self.states: dict[str, str] = {}
        lasting_certificates()
        self.config = self._coordinator()
        self.credentials = folder / "credentials.json"
        self._site()
        self._others()
        (folder / "bundle.json").write_text(json.dumps(bundle(self.config), indent=2) + "\n")
        given = join.FederationBundle.load(folder / "bundle.json")
        join.join(join.compare(self.site / new_site.SITE_YAML, given))
        self.roster = Roster(self.config.roster).identities()

    # --- what is there before anything runs ---
    def _coordinator(self) -> CoordinatorConfig:
        config = create(self.folder / "coordinator", ["127.0.0.1"], 9092, None, "Golden files")
        config.pki.renew(days=LASTING)
        token = Accounts(config.accounts).add("ada")
        ca = authority(config.pki)
        account = Credentials(coordinator=config.address, ca=ca, account="ada", token=token)
        issue(self.folder / "credentials.json", account)
        return config

    def _site(self) -> None:
        self.site = self.folder / "site"
        tables = {TASK: self.task, "breast_cancer": registry.load("breast_cancer")}
        data = {name: Path("data") / f"{name}.csv" for name in tables}
        new_site.init(
            self.site,
            SiteAnswers(
                site=SITE,
                data=data,
                tasks=(TASK,),
                purposes=("research",),
                modes=("none", "local", "distributed"),
                approval="hand",
                delta=1e-3,
                epsilon_per_study=10.0,
                epsilon_lifetime=2000.0,
                epsilon_broken=2000.0,
                exact_evaluation=True,
                exact_releases=1000,
                threads=1,
            ),
        )
        rules = self.site / new_site.SITE_YAML
        text = rules.read_text()
        rules.write_text(text.replace("queries: []", "queries: [count, histogram, table, mean]"))
        (self.site / "data").mkdir(mode=0o700)
        for name, task in tables.items():
            rows = {key: column[:160] for key, column in task.public_sites(None)[SITE].items()}
            write_csv(rows, self.site / data[name])
        card = new_site.card(SiteConfig.load(rules))
        (self.folder / "card.json").write_text(card.model_dump_json(indent=2) + "\n")
        Roster(self.config.roster).add(
            EnrolmentCard.load(self.folder / "card.json"), PATIENTS[SITE]
        )

    def _others(self) -> None:
        for name in set(SITES) - {SITE}:
            place = self.folder / "hospitals" / name
            place.mkdir(parents=True)
            identity = Identity.generate()
            identity.save(place / IDENTITY)
            key = create_node_key(place / NODE_KEY).decode()
            card = EnrolmentCard(site=name, identity=identity.public_key.hex(), node_key=key)
            Roster(self.config.roster).add(card, PATIENTS[name])

    # --- studies ---
    def study(self, title: str, *words: str, purpose: str = "research") -> tuple[Study, Any]:
        """A study that states more epsilon than it spends: another release may reckon a little
        differently."""
        overrides = [*WORDS, f"task.name={TASK}", f"title='{title}'", f"purpose={purpose}"]
        config = load([*overrides, *words])
        made = build_study(config, self.task, PATIENTS).model_dump()
        if made["privacy"]["epsilon"]:
            made["privacy"]["epsilon"] *= 1.5
        return Study.model_validate(made), plain(config)

    def query(self, title: str, mechanism: str, epsilon: float) -> tuple[Study, Any]:
        question = (
            Question.about(TASK, where="age >= 40", title=title).count().table("age:4", "sex")
        )
        study = build_query(question.quantiles("pressure").mean("age"), PATIENTS)
        made = study.model_dump()
        made["contact"] = "someone@example.org"
        if mechanism == "skellam":
            made["query"]["mechanism"] = mechanism
            made["privacy"]["noise_multiplier"] = made["evaluation"]["noise_multiplier"] = 12.0
            made["evaluation"]["scale"] = 16
        made["privacy"]["epsilon"] = epsilon
        return Study.model_validate(made), {"query": {"task": TASK}}

    # --- the hospital's operator ---
    def command(self, *words: str) -> None:
        """`wardround-site ...` at the hospital."""
        app([*words, "--config", str(self.site)], standalone_mode=False)

    @contextmanager
    def books(self, command: str, study: Study) -> Iterator[Approvals]:
        """Beside the daemon, as an operator's command that decides."""
        with governing(self.site, command, study=study.digest) as site:
            yield site.approvals

    def decide(self, study: Study, act: Callable[[Approvals], object], command: str) -> None:
        """Once the study has come in."""
        deadline = time.monotonic() + 60
        while not self._came_in(study):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{study.title} never came in.")
            time.sleep(0.2)
        with self.books(command, study) as approvals:
            act(approvals)

    def _came_in(self, study: Study) -> bool:
        with governing(self.site, None) as site:
            return any(known.digest == study.digest for known in site.approvals.studies())

    # --- running ---
    @contextmanager
    def running(self) -> Iterator[RemoteFederation]:
        """Coordinator, daemon and the other hospitals, all connected."""
        config = CoordinatorConfig.load(self.config.folder)
        ending = threading.Event()
        tables = self.task.public_sites(None)
        others = OtherHospitals(self.folder / "hospitals", self.roster, tables, self.gate)
        journal = Journal(config.event_log, console=None)
        with Coordinator(config, journal) as coordinator:
            serving = threading.Thread(target=coordinator.serve, args=(ending,))
            serving.start()
            others.connect(coordinator.address, config.pki.ca_certificate)
            daemon = Daemon(SiteConfig.load(self.site / new_site.SITE_YAML), lambda: None)
            working = threading.Thread(target=daemon.run)
            working.start()
            try:
                with RemoteFederation(self.credentials) as remote:
                    while len(coordinator.link.online()) < len(SITES):
                        time.sleep(0.1)
                    yield remote
            finally:
                coordinator.stop()
                daemon.stop()
                daemon.stop()
                working.join(60)
                self.gate.opened.set()
                others.disconnect()
                ending.set()
                serving.join(10)

    def finish(self, remote: RemoteFederation, study: Study, configuration: Any) -> None:
        remote.submit(study, configuration)
        self.decide(study, lambda approvals: approvals.approve(study), "approve")
        self.follow(remote, study)

    def follow(self, remote: RemoteFederation, study: Study) -> None:
        ended = [event["type"] for event in remote.events(study.digest)][-1]
        print(f"{study.title}: {ended}", flush=True)
        self.states[study.digest] = ended


def make_federation(folder: Path) -> Making:
    """Everything that `Making` describes, in `folder`."""
    making = Making(folder)
    set_clock()
    _first_day(making)
    _an_older_copy(making)
    _second_day(making)
    return making


def _first_day(making: Making) -> None:
    """Studies that came to an end, one way or another."""
    local, short = ("privacy=local", "privacy.epsilon=6", "local_steps=2"), ("rounds=3",)
    with making.running() as remote:
        for title, *words in (
            ("Local noise", *local, *short, "evaluation.every=1"),
            ("Shared noise", "privacy=distributed", "privacy.epsilon=6", *short),
            ("Without noise", "privacy=none", "evaluation=exact", *short, "evaluation.every=1"),
            ("Personal models", *local, *short, "algorithm=ditto", "evaluation.every=2"),
            ("Own layers", *local, *short, "algorithm=fedbn"),
        ):
            making.finish(remote, *making.study(title, *words))
        making.finish(remote, *making.query("Counted once", "laplace", 1.0))
        making.finish(remote, *making.query("Counted with Skellam noise", "skellam", 8.0))
        remote.consult(making.study("Only asked about", *local, *short)[0])

        other, configuration = making.study("For sale", *local, *short, purpose="marketing")
        remote.submit(other, configuration)
        making.follow(remote, other)
        dear, configuration = making.study(
            "Too dear", "privacy=local", "privacy.epsilon=13", "local_steps=2", *short
        )
        remote.submit(dear, configuration)
        making.follow(remote, dear)
        unwanted, configuration = making.study("Not wanted", *local, *short)
        remote.submit(unwanted, configuration)
        making.decide(unwanted, lambda a: a.reject(unwanted, reason="not ours"), "reject")
        making.follow(remote, unwanted)

        revoked, configuration = making.study("Revoked", *local, "rounds=6")
        making.gate.close(revoked, 3)
        remote.submit(revoked, configuration)
        making.decide(revoked, lambda a: a.approve(revoked), "approve")
        making.gate.reached.wait(60)
        making.decide(revoked, lambda a: a.revoke(revoked, reason="a doubt"), "revoke")
        making.gate.opened.set()
        making.follow(remote, revoked)

        cancelled, configuration = making.study("Cancelled", *local, "rounds=6")
        making.gate.close(cancelled, 3)
        remote.submit(cancelled, configuration)
        making.decide(cancelled, lambda a: a.approve(cancelled), "approve")
        making.gate.reached.wait(60)
        remote.cancel(cancelled.digest)
        making.gate.opened.set()
        making.follow(remote, cancelled)

        waiting, configuration = making.study("Waiting", *local, "rounds=2")
        remote.submit(waiting, configuration)
        making.decide(waiting, lambda approvals: approvals.find(waiting.digest), "show")
        making.expected |= {
            "refused": [other.digest, dear.digest],
            "rejected": unwanted.digest,
            "revoked": revoked.digest,
            "cancelled": cancelled.digest,
            "waiting": waiting.digest,
        }
        time.sleep(1.0)


def _an_older_copy(making: Making) -> None:
    """A backup is put back, and acknowledged: what was open in it is charged in full."""
    study, _ = making.study("Charged in full", "privacy=local", "privacy.epsilon=4", "rounds=3")
    with governing(making.site, None) as site:
        site.propose(study)
    with making.books("approve", study) as approvals:
        approvals.approve(study)
    making.folder.chmod(0o700)
    backup = making.folder / "backup.sqlite"
    making.command("ledger", "backup", str(backup))
    shutil.copyfile(backup, making.site / "state" / "state.sqlite")
    making.command("ledger", "acknowledge", "--yes")
    making.expected["charged_in_full"] = study.digest


def _second_day(making: Making) -> None:
    """A study is left in the middle of a round."""
    study, configuration = making.study(
        "Left running",
        "privacy=local",
        "privacy.epsilon=8",
        "algorithm=scaffold",
        f"rounds={ROUNDS}",
        "evaluation.every=2",
        "optimiser=fedadam",
        "averaging=last_half",
    )
    making.gate.close(study, STOPS_AT)
    with making.running() as remote:
        remote.submit(study, configuration)
        making.decide(study, lambda approvals: approvals.approve(study), "approve")
        if not making.gate.reached.wait(120):
            raise RuntimeError("The study never came to its last round.")
        told = remote.study(study.digest)
        making.expected |= {"running": study.digest, "rounds_told": told["round"]}
    for command in (("studies",), ("ledger",), ("audit", "verify")):
        making.command(*command)
