"""`wardround audit`: a study's claim against its own training code, on public or synthetic data.

The report goes into a folder and, where tracking.uri names a server, into a run of its own there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from client.data.cohort import Cohort
from client.privacy_audit.audit import audit as audit_claim
from client.privacy_audit.many_runs import Progress
from client.privacy_audit.report import AuditReport, save
from launch.config.schema import Config
from launch.federations.inprocess import cohorts_of
from launch.studies.baselines import pool
from launch.studies.membership import attack
from launch.studies.public_data import data_root
from launch.studies.run import declared_patients, split_plan
from launch.studies.study_builder import build_study
from protocol.errors import Code, WardroundError
from protocol.release import RELEASE
from protocol.study.study import Study
from server.outcome import RoundReport
from server.rounds.listener import Listeners
from server.tracking.report_run import ReportRun
from server.tracking.tags_and_metrics import parameters
from tasks import registry
from tasks.base import Task
from tasks.schema import Table

FOLDER = "audit"


@dataclass(frozen=True)
class SavedAudit:
    """A report, the folder that it is in, and its run's page in MLflow; or why it is not there."""

    report: AuditReport
    folder: Path
    url: str = ""
    untracked: WardroundError | None = None

    def require(self) -> None:
        """Raises WardroundError: CLAIM as `AuditReport.require`, else TRACKING."""
        self.report.require()
        if self.untracked is not None:
            raise self.untracked


class _Rounds(Listeners):
    """Shows the rounds of the study whose model is attacked."""

    def __init__(self, study: Study, progress: Progress) -> None:
        super().__init__()
        self._rounds, self._progress = study.optimisation.rounds, progress

    def round(self, report: RoundReport) -> None:
        self._progress("training a model to attack", report.round, self._rounds)


def audit(
    config: Config,
    runs: int,
    canaries: int,
    progress: Progress,
    folder: Path | None = None,
    document: Path | None = None,
) -> SavedAudit:
    """folder: where the report goes; in the study's own folder unless given. document: a study as
    it was signed or attached to its run in MLflow, which is then audited, rather than what the
    configuration says; without the membership attack, which needs the study's own hospitals.

    Raises WardroundError: CONFIGURATION where the data is hospitals' own, TRACKING where tracking
    is asked for and the server is away, and what `client.privacy_audit.audit.audit` and
    `client.privacy_audit.report.save` raise."""
    if config.federation.name == "deployment":
        raise _refused("the data of federation=deployment lies in hospitals.")
    study, task, cohorts = _planned(config) if document is None else _stated(document)
    with _tracked(config, study, {"runs": runs, "canaries": canaries}) as run:
        findings = audit_claim(study, task, pool(cohorts), runs, canaries, progress)
        member = None
        if document is None:
            member = attack(study, task, cohorts, _Rounds(study, progress))
        report = AuditReport(study, findings, member)
        folder = folder or Path(config.output) / study.digest[:12] / FOLDER
        files = save(report, folder)
        if run is None:
            return SavedAudit(report, folder)
        try:
            run.finish("finished", files, _metrics(report), _tags(report))
        except WardroundError as error:
            return SavedAudit(report, folder, run.url, error)
        return SavedAudit(report, folder, run.url)


def _planned(config: Config) -> tuple[Study, Task, dict[str, Cohort]]:
    """The study that a configuration makes of a task's public data."""
    task = registry.load(config.task.name, config.task.options)
    cohorts = cohorts_of(task, _public(task), split_plan(config))
    return build_study(config, task, declared_patients(cohorts)), task, cohorts


def _stated(document: Path) -> tuple[Study, Task, dict[str, Cohort]]:
    """A study in its own bytes, and the public data of its task. Raises WardroundError: NO_DATA,
    and what `Study.parse` and `registry.load_same` raise: the code must be the study's."""
    try:
        study = Study.parse(document.read_bytes())
    except OSError as error:
        raise WardroundError(
            Code.NO_DATA,
            f"The study {document} cannot be read: {error.strerror}.",
            remedy="Give study.json, from the artifacts of the study's run in MLflow.",
        ) from None
    task = registry.load_same(study.task)
    split = study.evaluation.model_copy(update={"subgroups": ()})
    return study, task, cohorts_of(task, _public(task), split)


def _public(task: Task) -> Mapping[str, Table]:
    try:
        return task.public_sites(data_root())
    except NotImplementedError:
        raise _refused(f"task {task.name} has no public data.") from None


@contextmanager
def _tracked(config: Config, study: Study, effort: Mapping[str, int]) -> Iterator[ReportRun | None]:
    """An open run for the report; closed as failed where there is none."""
    tracking = config.tracking
    if not tracking.uri:
        yield None
        return
    keys = parameters(study) | {f"audit.{name}": str(value) for name, value in effort.items()}
    tags = {"wardround.task": f"{study.task.name} {study.task.version}"}
    tags |= {"wardround.mode": study.privacy.mode, "wardround.code_version": RELEASE}
    name = study.digest[:12]
    run = ReportRun(tracking.uri, tracking.experiment, "audit", name, keys, tags)
    try:
        yield run
    except BaseException:
        with suppress(WardroundError):
            run.finish("failed", {}, {})
        raise


def _metrics(report: AuditReport) -> dict[str, float]:
    """For each finding epsilon by accounting, what it is at least, and the estimate. No figure that
    is no number: MLflow finds such a run as one with 0."""
    metrics = {"claim_holds": float(report.holds)}
    for one in report.findings:
        which = f"{one.audit}_{one.part}_{one.weights}".replace(" ", "_")
        metrics |= {
            f"{which}_epsilon": one.epsilon,
            f"{which}_at_least": one.bound,
            f"{which}_estimate": one.estimate,
        }
    if report.membership is not None:
        metrics |= {f"membership_{name}": of for name, of in asdict(report.membership).items()}
    return {name: value for name, value in metrics.items() if not math.isnan(value)}


def _tags(report: AuditReport) -> dict[str, str]:
    """What the study states, and whether it holds against the audit."""
    privacy = report.study.privacy
    return {
        "wardround.study": report.study.digest,
        "wardround.epsilon": repr(privacy.epsilon),
        "wardround.delta": repr(privacy.delta),
        "wardround.claim": "not contradicted" if report.holds else "broken",
    }


def _refused(why: str) -> WardroundError:
    return WardroundError(
        Code.CONFIGURATION,
        f"An audit from here takes public or synthetic data only, and {why} It learns as much as "
        "it can about single patients, without noise.",
        remedy="Audit the same study on a task with public data (`wardround tasks`), or ask the "
        "hospital's operator to run `wardround-site audit privacy STUDY` there.",
    )
