"""One study from a configuration to its summary, whichever federation runs it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from rich.console import Console

from client.data.cohort import Cohort
from launch.configuration import Config, plain
from launch.data import data_root
from launch.inprocess import InProcessFederation, cohorts_of
from launch.progress import Progressing
from launch.remote import RemoteFederation
from launch.study_builder import build_study
from protocol.errors import Code, WardroundError
from protocol.study import Evaluation, Study
from server.listener import Listeners
from server.report import Outcome
from server.roster import banded
from server.summary import write_summary
from server.tracker import MlflowTracker, Receipt, Tracker, TrackingListener, Untracked
from tasks import registry
from tasks.base import Task
from tasks.schema import Table

_FAREWELL = 20.0
"""Seconds that the end of an interrupted study may take."""


@dataclass(frozen=True)
class Finished:
    """A study at its end, and where it was left."""

    outcome: Outcome
    folder: Path
    receipt: Receipt


def run(config: Config, console: Console | None = None) -> Finished:
    """Runs the study that a configuration describes.

    Raises WardroundError for whatever goes wrong, KeyboardInterrupt when interrupted; MLflow then
    holds a run that says so.
    """
    if config.federation.name == "deployment":
        return run_deployment(config, console)
    if config.federation.name != "inprocess":
        raise WardroundError(
            Code.CONFIGURATION,
            f"There is no federation {config.federation.name!r}.",
            remedy="Choose federation=inprocess or federation=deployment.",
        )
    task = registry.load(config.task.name, config.task.options)
    tables = task.public_sites(data_root())
    return run_inprocess(config, task, tables, console)


def run_inprocess(
    config: Config, task: Task, tables: Mapping[str, Table], console: Console | None = None
) -> Finished:
    """The same on tables that are already here: site -> columns."""
    cohorts = cohorts_of(task, tables, split_plan(config))
    study = build_study(config, task, declared_patients(cohorts))
    with result_folder(config, study) as folder:
        kept = folder.parent
        with tracking(config, study, kept) as tracker, Progressing(study, console) as shown:
            outcome = InProcessFederation(cohorts).run(
                study, task, Listeners(shown, TrackingListener(tracker))
            )
        leave(outcome, folder)
    return Finished(outcome, folder, tracker.settle())


def run_deployment(config: Config, console: Console | None = None) -> Finished:
    """Submits the study to the coordinator of `federation.credentials` and follows it.

    Interrupted, it cancels the study. Raises also CREDENTIALS, TLS, UNREACHABLE.
    """
    if not config.federation.credentials:
        raise WardroundError(
            Code.CREDENTIALS,
            "federation=deployment needs a coordinator's credentials.",
            remedy="Set federation.credentials (or WARDROUND_CREDENTIALS) to the file that the "
            "coordinator's operator made with `wardround coordinator account add`.",
        )
    task = registry.load(config.task.name, config.task.options)
    credentials = Path(config.federation.credentials).expanduser()
    with RemoteFederation(credentials, address=config.federation.coordinator) as remote:
        study = build_study(config, task, remote.patients())
        names = {"experiment": config.tracking.experiment, "model": config.tracking.model}
        with result_folder(config, study) as folder:
            with Progressing(study, console) as shown:
                try:
                    outcome = remote.run(study, plain(config), names, shown)
                except KeyboardInterrupt:
                    withdraw(remote, study.digest)
                    raise
            leave(outcome, folder)
        return Finished(outcome, folder, remote.receipt)


def withdraw(remote: RemoteFederation, digest: str) -> None:
    """Cancels a study and sees it to its end, there and in MLflow. Its submission may have been
    cut short, so that the coordinator hears of the study only now."""
    for _ in range(5):
        with contextlib.suppress(WardroundError):
            remote.cancel(digest, wait=_FAREWELL)
            return
        time.sleep(0.5)


def split_plan(config: Config) -> Evaluation:
    """How cohorts are split, which is settled before the study is."""
    return Evaluation.model_validate(
        {
            "release": "exact",
            "split": config.evaluation.split,
            "fraction": config.evaluation.fraction,
        }
    )


def declared_patients(cohorts: Mapping[str, Cohort]) -> dict[str, int]:
    """Training patients by site, banded, as the holder of these cohorts may declare them."""
    return {site: banded(len(cohort.members("train"))) for site, cohort in cohorts.items()}


@contextlib.contextmanager
def result_folder(config: Config, study: Study) -> Iterator[Path]:
    """The study's folder under `output`: made before any work, and gone again if nothing came.

    Raises WardroundError(USAGE) where it cannot be written.
    """
    folder = Path(config.output) / study.digest[:12]
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WardroundError(
            Code.USAGE,
            f"{folder} cannot be made: {error.strerror}.",
            remedy="Set output to a folder of your own.",
        ) from None
    try:
        yield folder
    except BaseException:
        with contextlib.suppress(OSError):  # a folder with something in it stays
            for path in made:
                path.rmdir()
        raise


def leave(outcome: Outcome, folder: Path) -> None:
    """study.json, weights.npy and summary.json, the last one at the end."""
    import numpy as np

    (folder / "study.json").write_bytes(outcome.study.document)
    np.save(folder / "weights.npy", outcome.weights)
    write_summary(outcome, folder / "summary.json")


@contextlib.contextmanager
def tracking(config: Config, study: Study, kept: Path) -> Iterator[Tracker]:
    """A tracker that has begun; the run is closed as killed where the study has no outcome."""
    tracker: Tracker = Untracked()
    if config.tracking.uri:
        tracker = MlflowTracker(
            config.tracking.uri,
            config.tracking.experiment,
            model=config.tracking.model,
            undelivered=kept / "undelivered",
        )
    tracker.begin(study, plain(config), version("wardround"))
    try:
        yield tracker
    except BaseException:
        tracker.settle(timeout=10.0)
        raise
