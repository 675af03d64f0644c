"""Four real hospitals: a coordinator over TLS in this process, each daemon a process of its own.

A daemon can be killed for good at a named point (kill_points.py).
"""

from __future__ import annotations

import csv
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from client.config.site_config import SiteConfig
from client.enrolment import join, new_site
from client.enrolment.site_template import SiteAnswers
from client.governance.audit import Audit
from client.governance.budget import budget
from client.governance.database import SiteState
from launch.config.compose import load
from launch.studies.study_builder import build_study
from protocol.errors import Code, WardroundError
from protocol.study.study import Study
from protocol.wire.messages import Ending
from server.enrolment.certificates import Pki
from server.outcome import Outcome, RoundReport
from server.rounds import farewell
from server.rounds.proposal import Patience
from server.rounds.round_loop import RoundLoop
from server.transport.superlink import SuperLink, SuperLinkConfig
from tasks import registry
from tasks.schema import Table
from tests.client.daemon_process import Daemon
from tests.waiting import HUNG, until

TASK = "breast_cancer"
RULES: dict[str, Any] = {
    "tasks": (TASK,),
    "purposes": ("research",),
    "modes": ("distributed",),
    "approval": "rule",
    "delta": 1e-3,
    "epsilon_per_study": 100.0,
    "epsilon_lifetime": 5000.0,
    "epsilon_broken": 9000.0,
    "threads": 1,
}


def write_csv(table: Table, path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))


class Told:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.rounds: list[RoundReport] = []
        self.losses: list[tuple[int, int, str]] = []
        self.waits: list[tuple[str, tuple[str, ...]]] = []

    def waiting(self, why: str, sites: tuple[str, ...]) -> None:
        self.waits.append((why, sites))

    def lost(self, round_: int, attempt: int, why: str) -> None:
        self.losses.append((round_, attempt, why))

    def round(self, report: RoundReport) -> None:
        self.rounds.append(report)

    def finish(self, outcome: Outcome) -> None:
        self.outcome = outcome


class Running:
    """A study that runs in a thread."""

    def __init__(self, wards: Wards, study: Study, patience: Patience) -> None:
        self.told = Told()
        self._cancelled = threading.Event()
        self._study, self._fleet = study, wards.link.open_run(study.digest[:12])
        self._rounds = RoundLoop(
            study,
            registry.load(TASK),
            self._fleet,
            wards.roster,
            self.told,
            patience=patience,
            cancelled=self._cancelled.is_set,
        )
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        ending: Ending = "failed"
        try:
            self._rounds.run()
            ending = "finished"
        except BaseException as error:
            self.error = error
            ending = "cancelled" if self._cancelled.is_set() else "failed"
        farewell.send(self._study, self._fleet, frozenset(self._study.sites), ending)

    def outcome(self) -> Outcome:
        self._thread.join(HUNG)
        assert not self._thread.is_alive(), f"study still runs: {self.told.waits[-3:]}"
        if self.error is not None:
            raise self.error
        return self.told.outcome

    def cancel(self) -> None:
        self._cancelled.set()
        self._thread.join(HUNG)


class Wards:
    """The coordinator and the folders of its hospitals."""

    def __init__(self, folder: Path, **rules: Any) -> None:
        self.folder = folder
        self._tables = registry.load(TASK).public_sites(None)
        self.sites = tuple(sorted(self._tables))
        self._pki = Pki(folder / "pki")
        self._pki.create("wards", ["127.0.0.1"])
        self.link = self._listen(0)
        self._port = int(self.link.address.rpartition(":")[2])
        self._keys: dict[str, bytes] = {}
        self.roster: dict[str, str] = {}
        for site in self.sites:
            write_csv(self._tables[site], folder / f"{site}.csv")
            answers = SiteAnswers(site=site, data={TASK: folder / f"{site}.csv"}, **(RULES | rules))
            card = new_site.card(new_site.init(folder / site, answers))
            self.roster[site], self._keys[site] = card.identity, card.node_key.encode()
            self.link.register(site, self._keys[site])
        self.join()

    def join(self) -> None:
        """Every site takes the bundle."""
        bundle = self.folder / "bundle.json"
        ca = self._pki.ca_certificate.read_text()
        text = {"coordinator": self.link.address, "ca": ca, "roster": self.roster}
        bundle.write_text(json.dumps(text))
        for site in self.sites:
            path = self.folder / site / "site.yaml"
            join.join(join.compare(path, join.FederationBundle.load(bundle)))

    def restart_coordinator(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        self.link.stop()
        meanwhile()
        self.link = self._listen(self._port)
        for site in self.sites:
            self.link.register(site, self._keys[site])

    def _listen(self, port: int) -> SuperLink:
        config = SuperLinkConfig(self._pki.certificate, self._pki.private_key, port=port, grace=0.3)
        return SuperLink(config).start()

    def config(self, site: str) -> SiteConfig:
        return SiteConfig.load(self.folder / site / "site.yaml")

    def daemon(self, site: str, point: str | None = None, **env: str) -> Daemon:
        return Daemon(self.folder / site, point, env)

    def study(self, rounds: int = 3, spare: int = 6, **changes: Any) -> Study:
        """A private study over all sites."""
        overrides = [
            f"task={TASK}",
            "privacy=distributed",
            "privacy.epsilon=20",
            "privacy.delta=1e-3",
            "federation=deployment",
            "tracking=off",
            f"rounds={rounds}",
            f"aggregation.spare_attempts={spare}",
            *(f"{key}={value}" for key, value in changes.items()),
        ]
        patients = {s: max(20, len(t["patient"]) * 6 // 10) for s, t in self._tables.items()}
        return build_study(load(overrides), registry.load(TASK), patients)

    def run(self, study: Study, **patience: Any) -> Running:
        given: dict[str, Any] = {"answer": HUNG, "join": HUNG, "poll": 0.1, "failures": 5}
        return Running(self, study, Patience(**(given | patience)))

    def until_online(self, *sites: str) -> None:
        until(lambda: set(sites or self.sites) <= self.link.online(), "the sites are online")

    @contextmanager
    def books(self, site: str) -> Iterator[tuple[SiteConfig, SiteState, Audit]]:
        """A site's state as its operator's commands open it, beside the daemon or after it."""
        config = self.config(site)
        identity = config.load_identity()
        state = SiteState.open(config.state, site, identity.public_key.hex())
        try:
            yield config, state, Audit(state, site, identity)
        finally:
            state.close()

    def verify_books(self, site: str) -> None:
        """Raises WardroundError where ledger or audit log are not whole, AssertionError where an
        attempt was computed that the ledger lacks."""
        with self.books(site) as (config, state, audit):
            audit.verify()
            with state.reading() as db:
                sound = db.execute("PRAGMA integrity_check").fetchone()[0]
                debited = set(db.execute("SELECT DISTINCT study, attempt FROM debits").fetchall())
            if sound != "ok" or budget(state, config.policy).spent < 0:
                raise WardroundError(Code.LEDGER, f"The ledger of {site} is not whole.")
        record = self.folder / site / "computed"
        lines = record.read_text().splitlines() if record.exists() else []
        computed = {(line.split()[0], int(line.split()[1])) for line in lines}
        assert computed <= debited, "the ledger lacks attempts whose data was touched"

    def close(self) -> None:
        self.link.stop()


def renamed(study: Study, number: int) -> Study:
    """The same study under another digest."""
    return Study.model_validate(study.model_dump() | {"nonce": f"{number:016x}"})
