"""One study from a configuration to its summary, whichever federation runs it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from client.data.cohort import Cohort
from launch.config.compose import plain
from launch.config.schema import Config
from launch.federations.deployment import RemoteFederation
from launch.federations.inprocess import InProcessFederation, Simulation, cohorts_of
from launch.studies.baselines import Judged, compare, figures_of
from launch.studies.progress import Progressing
from launch.studies.public_data import data_root
from launch.studies.run_folder import RunFolder, begin, can_go_on, forget, leave
from launch.studies.study_builder import build_study
from protocol.errors import Code, WardroundError
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
from server.tracking.tracker import MlflowTracker, Receipt, Tracker, TrackingListener, Untracked
from tasks import registry
from tasks.base import Task
from tasks.schema import Table

_FAREWELL = 20.0
"""Seconds that the end of an interrupted study may take."""


@dataclass(frozen=True)
class Finished:
    """A study at its end, where it was left, and what it was compared with."""

    outcome: Outcome
    folder: Path
    receipt: Receipt
    baselines: tuple[Judged, ...] = ()


def run(config: Config, console: Console | None = None, *, parent: str | None = None) -> Finished:
    """Runs the study that a configuration describes. parent: the MLflow run that it is part of.

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
) -> Finished:
    """As `run`, on tables that are given: site -> columns. study: one to resume. checkpoints:
    whether it can be resumed after an interruption, which costs 5 ms a round."""
    cohorts = cohorts_of(task, tables, split_plan(config))
    declared = declared_patients(cohorts)
    resumed = study is not None
    if study is not None and config.federation.name == "ray":
        refuse_forgetful(study)
    study = same_data(study, declared) if study else build_study(config, task, declared)
    with result_folder(config, study, console, resumed=resumed) as folder:
        with (
            tracking(config, study, folder.parent, parent) as tracker,
            Progressing(study, console) as shown,
            federation_of(config, cohorts, study, task) as federation,
        ):
            listeners = Listeners(shown, TrackingListener(tracker))
            chronicle = RunFolder(folder, listeners, checkpoints=checkpoints)
            chronicle.begin(study, config)
            for report in chronicle.reports:
                shown.round(report)
            federation.run(study, task, chronicle, checkpoint=chronicle.checkpoint)
        outcome = chronicle.result
        leave(outcome, folder)
        rows = tuple(_baselines(config, task, cohorts, declared, outcome, console))
        if rows:
            tracker.compared(figures_of(rows))
            write_summary(outcome, folder / "summary.json", figures_of(rows).figures)
    return Finished(outcome, folder, tracker.settle(), rows)


def _baselines(
    config: Config,
    task: Task,
    cohorts: Mapping[str, Cohort],
    declared: Mapping[str, int],
    outcome: Outcome,
    console: Console | None,
) -> Sequence[Judged]:
    if not config.baselines:
        return ()
    shown = console or command_line.console(stderr=True)
    with shown.status("training at one hospital alone, and on all data pooled"):
        return compare(config, task, cohorts, declared, outcome.weights, config.baselines)


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


def refuse_forgetful(study: Study) -> None:
    """Sites that wander between Ray's workers forget what is their own when Ray ends.

    Raises WardroundError(USAGE) for a study that would go on without it as another one.
    """
    if keeps_state(study.optimisation.local):
        raise WardroundError(
            Code.USAGE,
            f"A study with algorithm={study.optimisation.local.name} cannot go on under Ray: what "
            "its sites keep to themselves ended with it.",
            remedy="Run it anew, or with federation=inprocess or in a deployment, which keep it.",
        )


def same_data(study: Study, declared: Mapping[str, int]) -> Study:
    """The study, if it was made for these patients.

    Raises WardroundError(USAGE) where the data here has changed since.
    """
    if {member.name: member.patients for member in study.roster} != dict(declared):
        raise WardroundError(
            Code.USAGE,
            "The data here is not what the study was declared on.",
            remedy="Bring back the data as it was, or run a new study.",
        )
    return study


def credentials_of(config: Config) -> Path:
    """The file that federation.credentials names. Raises WardroundError(CREDENTIALS)."""
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
) -> Finished:
    """Submits the study to the coordinator of `federation.credentials` and follows it.

    study: one submitted before, which is followed again, or resumed where it failed.
    Interrupted, it cancels the study or leaves it, as `federation.on_interrupt` says. Raises also
    CREDENTIALS, TLS, UNREACHABLE.
    """
    credentials = credentials_of(config)
    task = registry.load(config.task.name, config.task.options)
    with RemoteFederation(credentials, address=config.federation.coordinator) as remote:
        resumed = study is not None
        study = study or build_study(config, task, remote.patients())
        names = {"experiment": config.tracking.experiment, "model": config.tracking.model}
        with result_folder(config, study, console, resumed=resumed) as folder:
            with Progressing(study, console) as shown:
                begin(folder, study, config)
                try:
                    outcome = remote.run(study, redacted(plain(config)), names, shown)
                except KeyboardInterrupt:
                    if config.federation.on_interrupt == "cancel":
                        withdraw(remote, study.digest)
                        forget(folder)
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
def result_folder(
    config: Config, study: Study, console: Console | None = None, *, resumed: bool = False
) -> Iterator[Path]:
    """The study's folder under `output`: made before any work, and gone again if nothing came.

    What an interrupted study needs to go on stays, and the console says how it does. Raises
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
        goes_on = isinstance(error, KeyboardInterrupt) and can_go_on(folder, config.federation.name)
        if goes_on:
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
    config: Config, study: Study, kept: Path, parent: str | None = None
) -> Iterator[Tracker]:
    """A tracker that has begun; the run is closed as killed where the study has no outcome.
    parent: the MLflow run of which this one is a part, whose runs register no models."""
    tracker: Tracker = Untracked()
    if config.tracking.uri:
        tracker = MlflowTracker(
            config.tracking.uri,
            config.tracking.experiment,
            model=config.tracking.model,
            undelivered=kept / "undelivered",
            parent=parent,
        )
    try:
        tracker.begin(study, plain(config), RELEASE)
        yield tracker
    except BaseException:
        tracker.settle(_FAREWELL)
        raise
