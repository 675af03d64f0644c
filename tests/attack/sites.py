"""Four real hospitals whose daemons keep a diary that only the tests read.

Each site is a process of its own under its own site.yaml. The diary has what the site contributed,
which nobody else may ever see.
"""

from __future__ import annotations

import csv
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from client.config.site_config import SiteConfig
from client.enrolment import new_site
from client.enrolment.site_template import SiteAnswers
from client.governance.audit import Audit
from client.governance.database import SiteState
from client.governance.governance import SiteGovernance
from client.training.contribution import Contributor
from launch.config.compose import load, plain
from launch.demo.consortium import federate
from launch.studies.study_builder import build_study
from protocol.identity import Identity
from protocol.study.study import Study
from server.enrolment.roster import Roster
from server.transport.superlink import SuperLink, SuperLinkConfig
from tasks import registry
from tasks.schema import PATIENT, Table
from tests.forked import child
from tests.waiting import HUNG, until

TASK = "breast_cancer"
SITES = ("east", "north", "south", "west")
_EXTRA = 2500
"""Patients made up beside the real ones, so that a hospital's counts are numbers of four digits."""


def canary(site: str) -> str:
    """A patient of this hospital alone."""
    return f"canary-of-{site}-7f3e"


def odd_value(site: str) -> float:
    """His mean radius, which no other patient has."""
    return 13.370100133 + (SITES.index(site) + 1) * 0.0100711


def table(site: str, real: Table) -> Table:
    """A hospital's rows: real patients, made-up ones near them, and the canary."""
    drawn = np.random.default_rng(SITES.index(site))
    rows = drawn.integers(0, len(real[PATIENT]), _EXTRA + 1)
    made: dict[str, Any] = {}
    for name, values in real.items():
        if name == PATIENT:
            made[name] = [f"{site}-{k:04d}" for k in range(_EXTRA)] + [canary(site)]
        elif name == "malignant":
            made[name] = values[rows]
        else:
            made[name] = values[rows] * drawn.uniform(0.99, 1.01, _EXTRA + 1)
    made["mean_radius"][-1] = odd_value(site)
    return {name: np.concatenate([real[name], np.array(made[name])]) for name in real}


def keep_diary(folder: Path) -> None:
    """In the site's process: STUDY-ATTEMPT-x.npy is the contribution, -e.npy the share of noise."""
    folder.mkdir(exist_ok=True)
    debit, contribution, noise = (
        SiteGovernance.debit,
        Contributor.contribution,
        Contributor.noise,
    )
    places: dict[str, str] = {}

    def noting(self: SiteGovernance, study: Study, round_: int, attempt: int, parts: Any) -> None:
        debit(self, study, round_, attempt, parts)
        places[study.digest] = f"{study.digest[:12]}-{attempt}"

    def telling(self: Contributor, *args: Any) -> Any:
        x = contribution(self, *args)
        np.save(folder / f"{places[self.study.digest]}-x.npy", x)
        return x

    def telling_noise(self: Contributor, *args: Any) -> Any:
        e = noise(self, *args)
        np.save(folder / f"{places[self.study.digest]}-e.npy", e)
        return e

    patch.object(SiteGovernance, "debit", noting).start()
    patch.object(Contributor, "contribution", telling).start()
    patch.object(Contributor, "noise", telling_noise).start()


def serve(folder: str) -> None:
    """In the child: `wardround-site start`, its words in daemon.log."""
    os.environ["OMP_NUM_THREADS"] = "1"
    log = os.open(f"{folder}/daemon.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    keep_diary(Path(folder) / "diary")
    from client.cli.main import main

    sys.argv = ["wardround-site", "start", "--config", folder, "--log", "json"]
    main()


class Ring:
    """The coordinator's door in this process, which the tests open as they like, and four sites."""

    def __init__(self, folder: Path, mlflow_port: int) -> None:
        self.folder = folder
        self.mlflow_port = mlflow_port
        real = registry.load(TASK).public_sites(None)
        self.patients = dict.fromkeys(SITES, 2000)
        for site in SITES:
            self._found(site, table(site, real[site]))
        tracking = f"http://127.0.0.1:{mlflow_port}"
        self.coordinator = federate(folder, self.patients, tracking)
        enrolled = Roster(self.coordinator.roster).sites()
        self.roster = {site: entry.identity for site, entry in enrolled.items()}
        self._keys = {site: entry.node_key.encode() for site, entry in enrolled.items()}
        self.link = self.listen()
        self._processes: dict[str, BaseProcess] = {}

    def _found(self, site: str, rows: Table) -> None:
        data = self.folder / f"{site}.csv"
        with data.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(rows)
            writer.writerows(zip(*rows.values(), strict=True))
        answers = SiteAnswers(
            site=site,
            data={TASK: data},
            tasks=(TASK,),
            purposes=("research",),
            modes=("none", "local", "distributed"),
            approval="rule",
            delta=1e-3,
            epsilon_per_study=100.0,
            epsilon_lifetime=5000.0,
            epsilon_broken=9000.0,
            exact_evaluation=True,
            public_data=(TASK,),
            threads=1,
        )
        new_site.init(self.folder / site, answers)

    # --- the door ---
    def listen(self) -> SuperLink:
        """A SuperLink where the sites look for it."""
        pki = self.coordinator.pki
        port = int(self.coordinator.address.rpartition(":")[2])
        config = SuperLinkConfig(pki.certificate, pki.private_key, port=port, grace=0.3)
        self.link = SuperLink(config).start()
        for site in SITES:
            self.link.register(site, self._keys[site])
        return self.link

    # --- the sites ---
    def start(self, *sites: str) -> None:
        for site in sites:
            self._processes[site] = child(serve, str(self.folder / site))

    def kill(self, site: str) -> None:
        self._processes[site].kill()
        self._processes[site].join(HUNG)

    def stop(self, site: str) -> int | None:
        """SIGTERM; the exit status."""
        process = self._processes[site]
        process.terminate()
        process.join(HUNG)
        return process.exitcode

    def ended(self, site: str) -> int | None:
        self._processes[site].join(HUNG)
        return self._processes[site].exitcode

    def until_online(self, *sites: str) -> None:
        until(lambda: set(sites or SITES) <= self.link.online(), "the sites are online")

    def until_gone(self, site: str) -> None:
        until(lambda: site not in self.link.online(), f"{site} is gone")

    def close(self) -> None:
        for process in self._processes.values():  # asked politely, each would await its sum
            process.kill()
        for process in self._processes.values():
            process.join(HUNG)
        self.link.stop()

    # --- what lies at a site ---
    def config(self, site: str) -> SiteConfig:
        return SiteConfig.load(self.folder / site / new_site.SITE_YAML)

    def identity(self, site: str) -> Identity:
        """For sites that collude with the coordinator."""
        return self.config(site).load_identity()

    def log(self, site: str) -> str:
        return (self.folder / site / "daemon.log").read_text()

    def diary(self, site: str, study: Study, attempt: int) -> dict[str, np.ndarray]:
        """x and, once noise was drawn, e."""
        found = (self.folder / site / "diary").glob(f"{study.digest[:12]}-{attempt}-?.npy")
        return {path.stem[-1]: np.load(path) for path in found}

    @contextmanager
    def books(self, site: str) -> Iterator[tuple[SiteState, Audit]]:
        config, identity = self.config(site), self.identity(site)
        state = SiteState.open(config.state, site, identity.public_key.hex())
        try:
            yield state, Audit(state, site, identity)
        finally:
            state.close()

    def debited(self, site: str, study: Study) -> set[int]:
        """Attempts of a study that the site's ledger was charged for."""
        with self.books(site) as (state, _), state.reading() as db:
            rows = db.execute("SELECT attempt FROM debits WHERE study = ?", (study.digest,))
            return {attempt for (attempt,) in rows.fetchall()}

    # --- studies ---
    def study(self, *overrides: str) -> tuple[Study, Mapping[str, Any]]:
        """A study over all sites, and its configuration."""
        config = load([f"task={TASK}", "federation=deployment", "privacy.delta=1e-3", *overrides])
        return build_study(config, registry.load(TASK), self.patients), plain(config)
