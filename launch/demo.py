"""A real federation on this machine: coordinator, four hospitals' daemons, MLflow, one study.

Everything is what a real deployment has: processes of their own, TLS, node authentication, keys,
policies, ledgers, secure aggregation. Only the data is public, so that the result can be compared
with one hospital alone and with all data pooled.
"""

from __future__ import annotations

import contextlib
import csv
import json
import shutil
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from client import joining, setup
from client.site_template import Answers
from launch import configuration
from launch.baselines import compare
from launch.data import data_root
from launch.guarded import Guarded, stop_all
from launch.inprocess import cohorts_of, split_of
from launch.mlflow_server import MlflowServer
from launch.report import show, show_comparison
from launch.run import Finished, declared_patients, run, split_plan
from protocol.errors import Code, WardroundError
from server.accounts import Accounts, Credentials, issue
from server.coordinator_config import CoordinatorConfig
from server.coordinator_setup import authority, bundle, create
from server.roster import Roster
from tasks.base import Task
from tasks.schema import PATIENT, SPLIT, Table

_MARK = ".wardround-demo"
_FRACTION = 0.3
"""Of patients, who evaluate."""


@dataclass(frozen=True)
class Demo:
    """A folder with everything in it; `run` fills it and ends every process that it started."""

    folder: Path
    task: Task
    overrides: tuple[str, ...] = ()

    def run(self, console: Console) -> Finished:
        """Raises WardroundError; no process is left behind, whatever happens."""
        started = time.monotonic()
        public = self.task.public_sites(data_root())
        tables = {site: with_split(site, table) for site, table in public.items()}
        config = self._configuration()
        cohorts = cohorts_of(self.task, tables, split_plan(config))
        declared = declared_patients(cohorts)
        self._clear()
        with contextlib.ExitStack() as stack:
            mlflow = MlflowServer(self.folder / "mlflow")
            stack.callback(mlflow.stop)
            mlflow.start()
            console.print(f"[bold]{self.task.title}[/bold]: {len(tables)} hospitals, each with")
            console.print("its own keys, policy, ledger and daemon; a coordinator; MLflow.")
            coordinator = self._set_up(mlflow.url, tables, declared)
            processes: list[Guarded] = []
            stack.callback(stop_all, processes)
            for name, command in self._commands(coordinator, sorted(tables)):
                log = self.folder / f"{name}.log"
                processes.append(Guarded(command, log, {"OMP_NUM_THREADS": "1"}))
            with console.status("starting processes"):
                mlflow.wait()
                wait_for(coordinator, self.folder / "coordinator.log")
            config.federation.credentials = str(self.folder / "credentials.json")
            finished = run(config, console)
            show(finished, console)
        with console.status("training at one hospital alone, and on all data pooled"):
            rows = compare(config, self.task, cohorts, declared, finished.outcome.weights)
        show_comparison(rows, console)
        console.print(f"Done in {time.monotonic() - started:.0f} s. To look at it in MLflow:")
        console.print(f"  wardround mlflow {self.folder / 'mlflow'}", highlight=False)
        return finished

    def _clear(self) -> None:
        """Makes the folder anew; one that no demo made is never touched.

        Raises WardroundError(STATE).
        """
        if self.folder.exists() and any(self.folder.iterdir()):
            if not (self.folder / _MARK).is_file():
                raise WardroundError(
                    Code.STATE,
                    f"{self.folder} holds something that no demo made.",
                    remedy="Name another folder: a demo empties its own at every run.",
                )
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self.folder / _MARK).touch(0o600)

    def _configuration(self) -> configuration.Config:
        config = configuration.load(
            [
                f"task={self.task.name}",
                "federation=deployment",
                "evaluation=exact",
                "evaluation.split=column",
                f"evaluation.fraction={_FRACTION}",
                f"output={self.folder / 'outputs'}",
                *self.overrides,
            ]
        )
        if not any(override.startswith("evaluation.every=") for override in self.overrides):
            config.evaluation.every = max(1, config.rounds // 10)
        return config

    def _set_up(
        self, mlflow: str, tables: Mapping[str, Table], declared: Mapping[str, int]
    ) -> CoordinatorConfig:
        """What operators do once: keys, policies, enrolment, the roster brought to every site."""
        hosts = ["localhost", "127.0.0.1"]
        config = create(self.folder / "coordinator", hosts, free_port(), mlflow, "wardround demo")
        roster = Roster(config.roster)
        sites = {}
        for name, table in tables.items():
            self.folder.joinpath("data").mkdir(exist_ok=True, mode=0o700)
            data = self.folder / "data" / f"{name}.csv"
            write_csv(table, data)
            answers = Answers(
                site=name,
                data={self.task.name: data.absolute()},
                tasks=(self.task.name,),
                purposes=("research",),
                modes=("none", "local", "distributed"),
                approval="rule",
                delta=1e-3,
                epsilon_per_study=10.0,
                epsilon_lifetime=50.0,
                epsilon_broken=50.0,
                exact_evaluation=True,
                threads=1,
            )
            sites[name] = setup.init(self.folder / name, answers)
            roster.add(setup.card(sites[name]), declared[name])
        brought = self.folder / "bundle.json"
        brought.write_text(json.dumps(bundle(config)))
        for name in tables:
            given = joining.Bundle.load(brought)
            joining.join(joining.compare(self.folder / name / setup.SITE_YAML, given))
        token = Accounts(config.accounts).add("demo")
        issue(
            self.folder / "credentials.json",
            Credentials(
                coordinator=config.address, ca=authority(config.pki), account="demo", token=token
            ),
        )
        return config

    def _commands(
        self, coordinator: CoordinatorConfig, sites: list[str]
    ) -> list[tuple[str, list[str]]]:
        """What their operators start, by the same console scripts."""
        scripts = Path(sys.executable).parent
        coordinate = [str(scripts / "wardround"), "coordinator", "start", str(coordinator.folder)]
        return [
            ("coordinator", coordinate),
            *(
                (
                    f"site-{name}",
                    [
                        str(scripts / "wardround-site"),
                        "start",
                        "--config",
                        str(self.folder / name / setup.SITE_YAML),
                    ],
                )
                for name in sites
            ),
        ]


def with_split(site: str, table: Table) -> Table:
    """The table with a column that says who trains and who evaluates, for all to know: only so
    can the federated model be compared on the very same patients."""
    place = split_of(site)
    parts = ["train" if place(str(p)) < 1 - _FRACTION else "evaluation" for p in table[PATIENT]]
    return {**table, SPLIT: np.array(parts, dtype=object)}


def write_csv(table: Table, path: Path) -> None:
    """A missing value is an empty field."""
    with path.open("w", newline="") as file:
        path.chmod(0o600)
        writer = csv.writer(file)
        writer.writerow(table)
        for row in zip(*table.values(), strict=True):
            writer.writerow("" if value is None or value != value else value for value in row)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(coordinator: CoordinatorConfig, log: Path, timeout: float = 60.0) -> None:
    """Until the coordinator listens. Raises WardroundError(UNREACHABLE) naming its log."""
    host, _, port = coordinator.address.rpartition(":")
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1.0):
            return
        time.sleep(0.1)
    raise WardroundError(
        Code.UNREACHABLE, "The coordinator did not start.", remedy=f"Its own words are in {log}."
    )
