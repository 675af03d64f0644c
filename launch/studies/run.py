"""One study from a configuration to its summary, whichever federation runs it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from client.data.cohort import Cohort
from client.training.self_check import check_task
from launch.config.compose import plain
from launch.config.schema import Config
from launch.config.study_documents import subgroups_of
from launch.federations.deployment import RemoteFederation
from launch.federations.inprocess import InProcessFederation, Simulation, cohorts_of
from launch.federations.login import kept_credentials
from launch.federations.planned_sites import difference
from launch.studies.baselines import BaselineScore, compare, figures_of
from launch.studies.permit import under_permit
from launch.studies.progress import StudyProgress
from launch.studies.public_data import data_root
from launch.studies.run_folder import (
    RunFolder,
    begin,
    forget,
    has_unfinished,
    is_resumable,
    leave,
    leave_unfinished,
)
from launch.studies.starting_model import starting_weights
from launch.studies.study_builder import build_study, chosen
from protocol.errors import Code, WardroundError
from protocol.privacy.epsilon_text import rounded_up
from protocol.release import RELEASE
from protocol.study.algorithms import keeps_state
from protocol.study.study import Evaluation, Study
from protocol.terminal import command_line
from protocol.terminal.printable import printable
from server.enrolment.roster import banded
from server.outcome import Outcome
from server.rounds.listener import Listeners
from server.tracking.parameters import redacted
from server.tracking.summary import write_summary
from server.tracking.tracker import MlflowTracker, Tracker, TrackingReceipt
from tasks import registry
from tasks.base import Task
from tasks.schema import Table

_FAREWELL = 20.0
"""Seconds that the end of an interrupted study may take."""


@dataclass(frozen=True)
class FinishedStudy:
    """A finished study, its folder, its run in MLflow, and the models it was compared with."""

    outcome: Outcome
    folder: Path
    receipt: TrackingReceipt
    baselines: tuple[BaselineScore, ...] = ()


def run(
    config: Config, console: Console | None = None, *, parent: str | None = None
) -> FinishedStudy:
    """Runs the study that a configuration describes. parent: the MLflow run of its sweep.

    Raises WardroundError for whatever goes wrong, KeyboardInterrupt when interrupted; MLflow then
    holds a run that says so.
    """
    if config.federation.name == "deployment":
        return run_deployment(config, console)
    task = registry.load(config.task.name, config.task.options)
    tables = task.public_sites(data_root())
    return run_inprocess(config, task, tables, console, parent=parent)


def run_inprocess(
    config: Config,
    task: Task,
    tables: Mapping[str, Table],
    console: Console | None = None,
    *,
    study: Study | None = None,
    parent: str | None = None,
    checkpoints: bool = True,
) -> FinishedStudy:
    """Runs a study on simulated sites with these tables: site -> columns. study: one to resume.
    checkpoints: whether it can be resumed after an interruption, which costs 5 ms a round. Raises
    as `run`."""
    cohorts = cohorts_of(task, chosen(config, tables), split_plan(config))
    declared = declared_patients(cohorts)
    resumed = study is not None
    if study is None:
        study = under_permit(build_study(config, task, declared), config.permit)
    else:
        require_resumable(study, config, declared)
    with result_folder(config, study, console, resumed=resumed) as folder:
        with (
            tracking(config, study, folder.parent, parent) as tracker,
            StudyProgress(study, console) as shown,
            federation_of(config, cohorts, study, task) as federation,
        ):
            begin(folder, study, config)
            record = RunFolder(folder, Listeners(shown, tracker), checkpoints=checkpoints)
            for report in record.reports:
                shown.round(report)
            try:
                federation.run(
                    study,
                    task,
                    record,
                    checkpoint=record.checkpoint,
                    start=starting_weights(config),
                )
            except WardroundError:
                release_unfinished(record.outcome, folder, console)
                raise
        outcome, rows = record.result, list[BaselineScore]()
        leave(outcome, folder)
        if which := config.baselines:
            console = console or command_line.console(stderr=True)
            with console.status("training at one hospital alone, and on all data pooled"):
                rows = compare(config, task, cohorts, declared, outcome.weights, which)
            tracker.compared(figures_of(rows))
            write_summary(outcome, folder / "summary.json", figures_of(rows).figures)
    return FinishedStudy(outcome, folder, tracker.settle(), tuple(rows))


@contextlib.contextmanager
def federation_of(
    config: Config, cohorts: Mapping[str, Cohort], study: Study, task: Task
) -> Iterator[Simulation]:
    """Simulated sites, in this process or in workers of a Ray cluster."""
    if config.federation.name == "ray":
        from launch.federations.ray import RayFederation

        with RayFederation(
            cohorts, study, task, config.federation.workers, config.federation.address
        ) as federation:
            yield federation
    elif config.federation.name == "inprocess":
        yield InProcessFederation(cohorts)
    else:
        raise WardroundError(
            Code.CONFIGURATION,
            f"There is no federation {config.federation.name!r}.",
            remedy="Choose federation=inprocess, federation=ray or federation=deployment.",
        )


def require_resumable(study: Study, config: Config, declared: Mapping[str, int]) -> None:
    """Raises WardroundError(USAGE) where the data here is not the study's, or where its sites'
    state is lost: it lives in Ray's workers, and ends with them."""
    local = study.optimisation.local
    if config.federation.name == "ray" and keeps_state(local):
        raise WardroundError(
            Code.USAGE,
            f"A study with algorithm={local.name} cannot be resumed under Ray: the state of its "
            "sites ended with it.",
            remedy="Run it again, or with federation=inprocess or in a deployment, which store it.",
        )
    planned = {member.name: member.patients for member in study.roster}
    if planned != dict(declared):
        raise WardroundError(
            Code.USAGE,
            "The data here is not what the study was declared on: "
            f"{difference(planned, declared)}.",
            remedy="Bring back the sites and data as they were, or run a new study: the sites "
            "of a study are fixed when it begins.",
        )


def credentials_of(config: Config) -> Path:
    """The file that federation.credentials names, or that `wardround login` kept.

    Raises WardroundError(CREDENTIALS).
    """
    if not config.federation.credentials and (kept := kept_credentials()).exists():
        return kept
    if not config.federation.credentials:
        raise WardroundError(
            Code.CREDENTIALS,
            "federation=deployment needs a coordinator's credentials.",
            remedy="Set federation.credentials (or WARDROUND_CREDENTIALS) to the file that the "
            "coordinator's operator made with `wardround coordinator account add`.",
        )
    return Path(config.federation.credentials).expanduser()


def run_deployment(
    config: Config, console: Console | None = None, *, study: Study | None = None
) -> FinishedStudy:
    """Submits the study to the coordinator of `federation.credentials` and follows it.

    study: one submitted before; it is followed, or resumed if it failed.
    Interrupted, it cancels the study or leaves it, as `federation.on_interrupt` says. Raises also
    CREDENTIALS, TLS, UNREACHABLE.
    """
    credentials = credentials_of(config)
    task = registry.load(config.task.name, config.task.options)
    with RemoteFederation(credentials, address=config.federation.coordinator) as remote:
        resumed = study is not None
        if study is None:
            study = remote.pinned(build_study(config, task, remote.patients()))
            study = under_permit(study, config.permit)
            check_task(task, study)
        names = {"experiment": config.tracking.experiment, "model": config.tracking.model}
        with result_folder(config, study, console, resumed=resumed) as folder:
            with StudyProgress(study, console) as shown:
                begin(folder, study, config)
                ended = _Ended(shown)
                try:
                    outcome = remote.run(study, redacted(plain(config)), names, ended)
                except BaseException as error:
                    released = release_unfinished(ended.outcome, folder, console)
                    interrupted = isinstance(error, KeyboardInterrupt) and not released
                    if interrupted and config.federation.on_interrupt == "cancel":
                        withdraw(remote, study.digest)
                        forget(folder)
                    raise
            leave(outcome, folder)
        return FinishedStudy(outcome, folder, remote.receipt)


class _Ended(Listeners):
    """Remembers how a study ended."""

    outcome: Outcome | None = None

    def finish(self, outcome: Outcome) -> None:
        self.outcome = outcome
        super().finish(outcome)


def release_unfinished(outcome: Outcome | None, folder: Path, console: Console | None) -> bool:
    """Leaves the model of a study that ended early, and says so. Whether there is one."""
    if outcome is None or not leave_unfinished(outcome, folder):
        return False
    done, rounds = outcome.rounds[-1].round, outcome.study.optimisation.rounds
    spent = "" if outcome.epsilon is None else f", epsilon {rounded_up(outcome.epsilon)} spent"
    said = f"unfinished model, after {done} of {rounds} rounds{spent}: {folder}/unfinished.npy"
    (console or command_line.console(stderr=True)).print(Text(printable(said)), soft_wrap=True)
    return True


def withdraw(remote: RemoteFederation, digest: str) -> None:
    """Cancels a study and waits for its end, so that MLflow says so too. Tries for some seconds:
    the coordinator may be receiving the submission only now."""
    for _ in range(5):
        with contextlib.suppress(WardroundError):
            remote.cancel(digest, wait=_FAREWELL)
            return
        time.sleep(0.5)


def split_plan(config: Config) -> Evaluation:
    """The part of a study's evaluation by which cohorts are split, before the study is built."""
    schema = registry.load(config.task.name, config.task.options).schema
    return Evaluation.model_validate(
        {
            "subgroups": subgroups_of(config, schema),
            "release": "exact",
            "split": config.evaluation.split,
            "fraction": config.evaluation.fraction,
            "since": config.evaluation.since,
        }
    )


def declared_patients(cohorts: Mapping[str, Cohort]) -> dict[str, int]:
    """Site -> number of training patients, banded as a site may declare it."""
    return {site: banded(len(cohort.members("train"))) for site, cohort in cohorts.items()}


@contextlib.contextmanager
def result_folder(
    config: Config, study: Study, console: Console | None = None, *, resumed: bool = False
) -> Iterator[Path]:
    """The study's folder under `output`: made before any work, and removed if there is no result.

    An interrupted study that can be resumed keeps its folder, and the console says how. Raises
    WardroundError(USAGE) where the folder cannot be written.
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
    except BaseException as error:
        if has_unfinished(folder):
            raise
        if isinstance(error, KeyboardInterrupt) and is_resumable(folder, config.federation.name):
            (console or command_line.console(stderr=True)).print(
                Text(printable(f"To continue: wardround run --resume {folder}")), soft_wrap=True
            )
        elif not resumed:
            forget(folder)
        with contextlib.suppress(OSError):  # a folder with something in it stays
            for path in made:
                path.rmdir()
        raise


@contextlib.contextmanager
def tracking(
    config: Config, study: Study, output: Path, parent: str | None = None
) -> Iterator[Tracker]:
    """A tracker that has begun; the run is closed as killed where the study has no outcome.
    parent: the MLflow run of a sweep, whose children register no models."""
    tracker = Tracker()
    if config.tracking.uri:
        tracker = MlflowTracker(
            config.tracking.uri,
            config.tracking.experiment,
            model=config.tracking.model,
            undelivered=output / "undelivered",
            parent=parent,
        )
    try:
        tracker.begin(study, plain(config), RELEASE)
        yield tracker
    except BaseException:
        tracker.settle(_FAREWELL)
        raise
