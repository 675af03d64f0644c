"""A sweep: overrides with several values of some keys, their studies side by side on this machine.

Workers are warm: each imports once, keeps the task's data and what calibration found, and uses one
thread. Every study is checked before the first one starts, and one that fails ends nothing else.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import secrets
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from launch.config import compose
from launch.config.schema import Config
from launch.studies.sweeps.files import write
from launch.studies.sweeps.result import SweepResult, SweepRow
from protocol.errors import Code, WardroundError
from protocol.privacy.epsilon_text import rounded_up
from protocol.terminal.printable import printable

if TYPE_CHECKING:
    from protocol.privacy.events import Event
    from server.tracking.report_run import ReportRun

_INTERRUPT_GRACE = 30.0
"""Seconds that interrupted studies have to close their runs."""


@dataclass(frozen=True)
class Sweep:
    """Studies by their overrides, and the keys in which they differ."""

    overrides: tuple[str, ...]
    keys: tuple[str, ...]
    combinations: tuple[tuple[str, ...], ...]
    configs: tuple[Config, ...]

    @staticmethod
    def of(overrides: Sequence[str]) -> Sweep:
        """Raises WardroundError(CONFIGURATION) where nothing is swept, or where any of the
        studies' configurations is not valid."""
        combinations = compose.swept(overrides)
        changing = [len({s[at] for s in combinations}) > 1 for at in range(len(overrides))]
        keys = tuple(
            combinations[0][at].partition("=")[0].lstrip("+") for at, c in enumerate(changing) if c
        )
        if not keys:
            raise WardroundError(
                Code.CONFIGURATION,
                "Nothing is swept: no key has several values.",
                remedy='Name some, such as privacy.epsilon=1,3 or "seed=range(5)", or omit -m.',
            )
        configs = [compose.load(combination) for combination in combinations]
        for key in ("output", "tracking.uri", "federation", "tracking"):
            if key in keys:
                raise WardroundError(
                    Code.CONFIGURATION,
                    f"{key} cannot be swept: the studies of a sweep lie together.",
                    remedy="Run one sweep for each.",
                )
        return Sweep(tuple(overrides), keys, tuple(combinations), tuple(configs))

    @property
    def config(self) -> Config:
        """Of the first study; what is not swept is the same in all."""
        return self.configs[0]

    def values(self, combination: Sequence[str]) -> dict[str, str]:
        """Swept key -> its value in one study."""
        pairs = (override.partition("=") for override in combination)
        every = {key.lstrip("+"): value for key, _, value in pairs}
        return {key: every[key] for key in self.keys}

    def run(self, jobs: int, console: Console) -> Path:
        """Runs all studies, `jobs` at a time (0: one a core, in a deployment one); the folder with
        sweep.json, sweep.csv and sweep.png.

        Raises WardroundError: TRACKING; what the studies failed with where none finished.
        KeyboardInterrupt when interrupted, after the studies' runs were marked.
        """
        alone = self.config.federation.name in ("deployment", "ray")
        jobs = min(jobs or (1 if alone else os.cpu_count() or 1), len(self.combinations))
        folder = Path(self.config.output) / f"sweep-{secrets.token_hex(6)}"
        result = SweepResult(self.overrides, self.keys)
        with self._tracked(folder.name) as tracked:
            status = "killed"
            folder.mkdir(parents=True)
            try:
                for row in self._rows(jobs, folder, tracked, console):
                    result.add(row)
                status = "finished" if result.finished else "failed"
            finally:
                files = write(result, folder)
                if tracked is not None:
                    tracked.finish(status, files, result.metrics())
        if not result.finished:
            first = result.rows[0]
            raise WardroundError(
                Code(first.code),
                f"No study of the sweep finished. {first.error}",
                remedy=f"Run it again once that is put right; {folder / 'sweep.csv'} has every "
                "study's error.",
            )
        if tracked is not None:
            console.print(Text(printable(f"MLflow: {tracked.url}")), soft_wrap=True)
        return folder

    @contextlib.contextmanager
    def _tracked(self, name: str) -> Iterator[ReportRun | None]:
        tracking = self.config.tracking
        if not tracking.uri or self.config.federation.name == "deployment":
            yield None
            return
        from server.tracking.report_run import ReportRun

        swept = {
            key: dict.fromkeys(self.values(s)[key] for s in self.combinations) for key in self.keys
        }
        keys = {f"sweep.{key}": ", ".join(values) for key, values in swept.items()}
        yield ReportRun(tracking.uri, tracking.experiment, "sweep", name, keys)

    def _rows(
        self, jobs: int, folder: Path, tracked: ReportRun | None, console: Console
    ) -> Iterator[SweepRow]:
        parent = None if tracked is None else tracked.run
        progress = Progress(
            TextColumn("studies"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        with progress, _workers(jobs) as submit:
            line = progress.add_task("", total=len(self.combinations))
            futures = [
                submit(study, replace(config, output=str(folder)), self.values(combination), parent)
                for combination, config in zip(self.combinations, self.configs, strict=True)
            ]
            for done in as_completed(futures):
                row: SweepRow = done.result()
                progress.advance(line)
                if row.error or not console.is_terminal:
                    console.print(Text(printable(row.line())), soft_wrap=True)
                yield row


@contextlib.contextmanager
def _workers(jobs: int) -> Iterator[Any]:
    """Submits to warm processes. Interrupted, it interrupts the studies that run, drops the rest,
    and waits until they have said so in MLflow."""
    from joblib.externals.loky import get_reusable_executor

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    executor = get_reusable_executor(max_workers=jobs, timeout=60, initializer=_prepare_worker)
    submitted: list[Future[SweepRow]] = []

    def submit(*work: Any) -> Future[SweepRow]:
        submitted.append(executor.submit(*work))
        return submitted[-1]

    try:
        yield submit
    except BaseException:
        for future in submitted:
            future.cancel()
        for pid in list(executor._processes):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)
        deadline = time.monotonic() + _INTERRUPT_GRACE
        for future in submitted:
            if future.running():
                with contextlib.suppress(BaseException):
                    future.result(max(0.0, deadline - time.monotonic()))
        executor.shutdown(wait=False, kill_workers=True)
        raise


def _prepare_worker() -> None:
    """In a worker: one thread, and a terminal's Ctrl-C comes through the parent, once."""
    os.setpgrp()
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)


def study(config: Config, values: dict[str, str], parent: str | None) -> SweepRow:
    """One study, in a worker. A WardroundError is part of the result; anything else is raised."""
    from launch.studies.run import run_deployment, run_inprocess

    started = time.monotonic()
    with Path(os.devnull).open("w") as nowhere:
        quiet = Console(file=nowhere)
        try:
            if config.federation.name == "deployment":
                finished = run_deployment(config, quiet)
            else:
                task, tables = _task_and_sites(config.task.name, json.dumps(config.task.options))
                finished = run_inprocess(
                    config, task, tables, quiet, parent=parent, checkpoints=False
                )
        except WardroundError as error:
            took = time.monotonic() - started
            return SweepRow(values, seconds=took, error=str(error), code=error.code.value)
    outcome = finished.outcome
    return SweepRow(
        values,
        study=outcome.study.digest,
        metrics={name: of.value for name, of in outcome.metrics.items()},
        epsilon=outcome.epsilon,
        seconds=time.monotonic() - started,
    )


@functools.lru_cache(maxsize=1)
def _task_and_sites(task: str, options: str) -> Any:
    """A task and its public data, read once by each worker."""
    from launch.studies.public_data import data_root
    from tasks import registry

    loaded = registry.load(task, json.loads(options))
    return loaded, loaded.public_sites(data_root())


def announcement(sweep: Sweep) -> str:
    """What to say before a sweep on data that is not public; empty where it is."""
    if sweep.config.federation.name != "deployment":
        return ""
    from launch.federations.deployment import RemoteFederation
    from launch.studies.run import credentials_of
    from launch.studies.study_builder import build_study
    from protocol.privacy.accounting import epsilon_over_bands
    from protocol.privacy.releases import planned_events
    from tasks import registry

    number, config = len(sweep.combinations), sweep.config
    with RemoteFederation(credentials_of(config), address=config.federation.coordinator) as remote:
        declared = remote.patients()
    events: list[Event] = []
    delta, exact = 0.0, 0
    for one in sweep.configs:
        task = registry.load(one.task.name, one.task.options)
        planned = build_study(one, task, declared)
        exact += not planned.privacy.traits.private
        if planned.privacy.epsilon is not None:
            events += planned_events(planned)
            delta = max(delta, planned.privacy.delta)
    text = f"This sweep is {number} studies on {len(declared)} hospitals' own patients."
    if events:
        spent = epsilon_over_bands(events, delta)
        text += (
            f" Every site's ledger debits each of them: together up to epsilon {rounded_up(spent)} "
            f"at delta {delta:g} for a patient, for ever. A site at its cap refuses the rest."
        )
    if exact:
        text += f" {exact} of them train without privacy: no epsilon bounds what that tells."
    return text


def show(folder: Path, console: Console) -> None:
    """Prints the table of a sweep's groups and where its files lie."""
    result = SweepResult.load(folder)
    console.print(result.table())
    if failed := [row for row in result.rows if row.error]:
        console.print(f"{len(failed)} of {len(result.rows)} studies failed.", style="yellow")
    console.print(Text(printable(f"sweep: {folder} (sweep.png, sweep.csv, sweep.json)")))
