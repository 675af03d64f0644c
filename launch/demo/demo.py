"""A real federation on this machine: coordinator, four hospitals' daemons, MLflow, one study.

Everything is what a real deployment has: processes of their own, TLS, node authentication, keys,
policies, ledgers, secure aggregation. Only the data is public, so that the result can be compared
with one hospital alone and with all data pooled.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from client.enrolment import new_site
from launch.config import compose
from launch.config.schema import Config
from launch.demo.child_process import GuardedProcess, script, stop_all
from launch.demo.consortium import BUNDLE, CREDENTIALS, federate
from launch.demo.hospitals import FRACTION, Hospitals, TabularHospitals
from launch.demo.local_ports import is_listening
from launch.demo.mlflow_server import MlflowServer
from launch.studies.baselines import compare
from launch.studies.result_view import show, show_comparison
from launch.studies.run import FinishedStudy, declared_patients, run, split_plan
from protocol.address import Address
from protocol.errors import Code, WardroundError
from protocol.terminal.printable import printable
from server.coordinator.config import CoordinatorConfig
from server.tracking.mlflow_run import attach
from tasks.base import Task

_MARK = ".wardround-demo"


@dataclass(frozen=True)
class Demo:
    """A folder with everything in it; `run` fills it and ends every process that it started."""

    folder: Path
    task: Task
    overrides: tuple[str, ...] = ()

    def run(self, console: Console) -> FinishedStudy:
        """Raises WardroundError; no process is left behind, whatever happens."""
        started = time.monotonic()
        config = self._configuration()
        hospitals = self._hospitals(config)
        self._clear()
        title = Text(printable(self.task.title), "bold")
        console.print(Text.assemble(title, ": four hospitals, each with its own keys,"))
        console.print("policy, ledger and daemon; a coordinator; MLflow.")
        cohorts = hospitals.make(self.folder, console)
        declared = declared_patients(cohorts)
        with contextlib.ExitStack() as stack:
            mlflow = MlflowServer(self.folder / "mlflow")
            stack.callback(mlflow.stop)
            mlflow.start()
            coordinator = federate(self.folder, declared, mlflow.url)
            processes: list[GuardedProcess] = []
            stack.callback(stop_all, processes)
            for name, command in self._commands(coordinator, sorted(declared)):
                log = self.folder / f"{name}.log"
                processes.append(GuardedProcess(command, log, {"OMP_NUM_THREADS": "1"}))
            with console.status("starting processes"):
                mlflow.wait()
                wait_for(coordinator, self.folder / "coordinator.log")
            config.federation.credentials = str(self.folder / CREDENTIALS)
            finished = run(config, console)
            show(finished, console)
            if (examples := hospitals.examples()) and finished.receipt.url:
                attach(mlflow.url, finished.receipt.url, examples, "examples")
        with console.status("training at one hospital alone, and on all data pooled"):
            rows = compare(config, self.task, cohorts, declared, finished.outcome.weights)
        show_comparison(rows, console)
        console.print(f"Done in {time.monotonic() - started:.0f} s. To look at it in MLflow:")
        console.print(Text(printable(f"  wardround mlflow {self.folder / 'mlflow'}")))
        console.print(Text(printable(mlflow.login)), soft_wrap=True)
        if model := finished.receipt.model:
            verify = f"  wardround models verify {model} --key {self.folder / BUNDLE}"
            console.print("To verify its model, with MLFLOW_TRACKING_URI and the password set:")
            console.print(Text(printable(verify)), soft_wrap=True)
        return finished

    def _clear(self) -> None:
        """Empties the folder; one that no demo made is never touched.

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

    def _configuration(self) -> Config:
        # At less, noise hides the figures of so few patients. The split is the comparison's, which
        # thus scores nobody who trained.
        own = any(override.startswith("privacy") for override in self.overrides)
        return compose.load(
            [
                f"task={self.task.name}",
                "federation=deployment",
                "evaluation.split=column",
                f"evaluation.fraction={FRACTION}",
                *([] if own else ["privacy.epsilon=3"]),
                f"output={self.folder / 'outputs'}",
                *self.overrides,
            ]
        )

    def _hospitals(self, config: Config) -> Hospitals:
        if self.task.schema.images and self.task.schema.columns:
            from launch.demo.fusion import FusionHospitals

            return FusionHospitals(self.task, split_plan(config))
        if self.task.schema.images:
            from launch.demo.radiology import RadiologyHospitals

            return RadiologyHospitals(self.task, split_plan(config))
        return TabularHospitals(self.task, split_plan(config))

    def _commands(
        self, coordinator: CoordinatorConfig, sites: list[str]
    ) -> list[tuple[str, list[str]]]:
        """What their operators start, by the same console scripts."""
        commands = [
            ("coordinator", [script("wardround"), "coordinator", "start", str(coordinator.folder)])
        ]
        for name in sites:
            rules = str(self.folder / name / new_site.SITE_YAML)
            commands.append(
                (f"site-{name}", [script("wardround-site"), "start", "--config", rules])
            )
        return commands


def wait_for(coordinator: CoordinatorConfig, log: Path, timeout: float = 60.0) -> None:
    """Waits until the coordinator listens. Raises WardroundError(UNREACHABLE) naming its log."""
    if not is_listening(*Address.parse(coordinator.address), timeout):
        raise WardroundError(
            Code.UNREACHABLE, "The coordinator did not start.", remedy=f"Its log is {log}."
        )
