"""A deployment of our own on this machine, as its operators would set it up and start it.

`wardround coordinator start` and one `wardround-site start` a site: processes of their own, TLS,
node authentication, policies, ledgers, audit logs.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Self

from client.enrolment import new_site
from launch.config.compose import load, plain
from launch.demo.child_process import GuardedProcess, script
from launch.demo.consortium import CREDENTIALS, federate
from launch.demo.hospitals import answers, write_csv
from launch.federations.deployment import RemoteFederation
from launch.studies.public_data import data_root
from launch.studies.study_builder import build_study
from protocol.errors import Code, WardroundError
from tasks.base import Task

_READY = 300.0
COORDINATOR = "coordinator"


def start(
    stack: ExitStack,
    log: Path,
    env: Mapping[str, str],
    program: str,
    *args: str,
    through: tuple[str, ...] = (),
) -> GuardedProcess:
    """One of our console scripts, on one numerical thread, until the stack is closed. through: a
    command that executes it."""
    environment = {"OMP_NUM_THREADS": "1", **env}
    process = GuardedProcess([*through, script(program), *args], log, environment)
    stack.callback(process.stop)
    return process


def until_online(remote: RemoteFederation, sites: int, logs: Path) -> None:
    """Returns when so many sites are connected. Raises RuntimeError with what was logged."""
    deadline = time.monotonic() + _READY
    while True:
        try:
            found = remote.federation()["sites"].values()
            if sum(site["online"] for site in found) == sites:
                return
        except WardroundError as error:
            if error.code is not Code.UNREACHABLE:
                raise
        if time.monotonic() > deadline:
            raise RuntimeError(f"Not all came online in {_READY:.0f} s.\n{tails(logs)}")
        time.sleep(0.2)


def round_times(
    remote: RemoteFederation, task: Task, logs: Path, overrides: tuple[str, ...]
) -> list[float]:
    """The times of a study's reports of its rounds, by the coordinator's clock.

    Raises RuntimeError with what was logged where the study does not finish.
    """
    config = load([f"task.name={task.name}", "tracking=off", "federation=deployment", *overrides])
    study = build_study(config, task, remote.patients())
    remote.submit(study, plain(config))
    times, last = [], ""
    for event in remote.events(study.digest):
        last = event["type"]
        if last == "round":
            times.append(datetime.fromisoformat(event["time"]).timestamp())
    if last != "finished":
        raise RuntimeError(f"The study {last}.\n{tails(logs)}")
    return times


def run_study(
    remote: RemoteFederation, task: Task, logs: Path, overrides: tuple[str, ...]
) -> list[float]:
    """Seconds from each round's report to the next. As `round_times`."""
    times = round_times(remote, task, logs, overrides)
    return [after - before for before, after in pairwise(times)]


def tails(folder: Path) -> str:
    """How every log in a folder ends."""
    logs = sorted(folder.glob("*.log"))
    return "\n".join(f"== {log.name}\n{log.read_text()[-1500:]}" for log in logs)


class Deployment:
    """A coordinator and the task's public sites in `folder`. A context manager."""

    def __init__(
        self,
        folder: Path,
        task: Task,
        env: Mapping[str, str],
        mlflow: str | None = None,
        also: Sequence[str] = (),
    ) -> None:
        """env: of every process. mlflow: the address of a server, which keeps the studies. also:
        other tasks of the same columns, which every site takes part in with the same table."""
        self.folder, self.task, self.env, self._mlflow = folder, task, env, mlflow
        self._also = tuple(also)
        self._stack = ExitStack()
        self._processes: dict[str, GuardedProcess] = {}

    def __enter__(self) -> Self:
        self.folder.mkdir(mode=0o700)
        tables = self.task.public_sites(data_root())
        for site, table in tables.items():
            data = self.folder / f"{site}.csv"
            write_csv(table, data)
            self._found(site, data)
        label = self.task.schema.label
        patients = {site: len(table[label]) for site, table in tables.items()}
        self.coordinator = federate(self.folder, patients, self._mlflow)
        with self._stack:
            self.start(COORDINATOR)
            self.remote = self._stack.enter_context(RemoteFederation(self.folder / CREDENTIALS))
            until_online(self.remote, 0, self.folder)
            for site in tables:
                self.start(site)
            until_online(self.remote, len(tables), self.folder)
            self._stack = self._stack.pop_all()
        return self

    def start(self, name: str) -> None:
        """Starts the coordinator, or a site by its name."""
        command = ("wardround", "coordinator", "start", str(self.coordinator.folder))
        if name != COORDINATOR:
            path = str(self.folder / name / new_site.SITE_YAML)
            command = ("wardround-site", "start", "--config", path)
        log, env = self.folder / f"{name}.log", {**self.env, **self.environment(name)}
        self._processes[name] = start(self._stack, log, env, *command, through=self.through(name))

    def environment(self, name: str) -> Mapping[str, str]:
        """What one of the processes has beside the environment of all."""
        return {}

    def through(self, name: str) -> tuple[str, ...]:
        """A command that executes one of the processes."""
        return ()

    def program(self, name: str) -> int:
        """The number of a running process. Raises ProcessLookupError for one that has ended."""
        guard = self.guard(name)
        try:
            return int(Path(f"/proc/{guard}/task/{guard}/children").read_text().split()[0])
        except (OSError, IndexError):
            raise ProcessLookupError(name) from None

    def guard(self, name: str) -> int:
        """The number of the process of which a running one, and all that it starts, descends."""
        return self._processes[name].pid

    def running(self, name: str) -> bool:
        return self._processes[name].running

    def kill(self, name: str) -> None:
        """Ends the coordinator, or a site by its name, without a word (SIGKILL), and waits until it
        is gone."""
        with suppress(ProcessLookupError):
            os.kill(self.program(name), signal.SIGKILL)
        self._processes[name].stop()

    def stop(self, name: str) -> None:
        """Ends the coordinator, or a site by its name, and waits until it is gone."""
        self._processes[name].stop()

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, *overrides: str) -> list[float]:
        """As `run_study`."""
        return run_study(self.remote, self.task, self.folder, overrides)

    def alive(self) -> int:
        """How many of the processes, the coordinator's and one a site, are running."""
        return sum(process.running for process in self._processes.values())

    def _found(self, site: str, data: Path) -> None:
        """The site's policy allows whatever is measured, sums without masks included."""
        allowed = replace(
            answers(site, self.task, data),
            epsilon_per_study=20.0,
            epsilon_lifetime=1000.0,
            epsilon_broken=1000.0,
        )
        new_site.init(self.folder / site, allowed)
        rules = self.folder / site / new_site.SITE_YAML
        text = rules.read_text().replace("unmasked: false", "unmasked: true")
        name = self.task.name
        block = re.findall(rf"^  {name}:\n(?:    .*\n)+", text, re.MULTILINE)[0]
        blocks = "".join(block.replace(name, other, 1) for other in (name, *self._also))
        text = text.replace(block, blocks)
        rules.write_text(text.replace(f"[{name}]", f"[{', '.join((name, *self._also))}]"))
