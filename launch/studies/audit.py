"""`wardround audit`: a study's claim against its own training code, on public or synthetic data."""

from __future__ import annotations

from pathlib import Path

from client.privacy_audit.audit import audit as audit_claim
from client.privacy_audit.many_runs import Progress
from client.privacy_audit.report import AuditReport
from launch.config.schema import Config
from launch.federations.inprocess import cohorts_of
from launch.studies.baselines import pool
from launch.studies.membership import attack
from launch.studies.public_data import data_root
from launch.studies.run import declared_patients, split_plan
from launch.studies.study_builder import build_study
from protocol.errors import Code, WardroundError
from protocol.study.study import Study
from server.outcome import RoundReport
from server.rounds.listener import Listeners
from tasks import registry

FOLDER = "audit"


class _Rounds(Listeners):
    """Shows the rounds of the study whose model is attacked."""

    def __init__(self, study: Study, progress: Progress) -> None:
        super().__init__()
        self._rounds, self._progress = study.optimisation.rounds, progress

    def round(self, report: RoundReport) -> None:
        self._progress("training a model to attack", report.round, self._rounds)


def audit(config: Config, runs: int, canaries: int, progress: Progress) -> AuditReport:
    """Raises WardroundError: CONFIGURATION where the data is hospitals' own, and what
    `client.privacy_audit.audit.audit` raises."""
    if config.federation.name == "deployment":
        raise _refused("the data of federation=deployment lies in hospitals.")
    task = registry.load(config.task.name, config.task.options)
    try:
        tables = task.public_sites(data_root())
    except NotImplementedError:
        raise _refused(f"task {task.name} has no public data.") from None
    cohorts = cohorts_of(task, tables, split_plan(config))
    study = build_study(config, task, declared_patients(cohorts))
    findings = audit_claim(study, task, pool(cohorts), runs, canaries, progress)
    return AuditReport(study, findings, attack(study, task, cohorts, _Rounds(study, progress)))


def folder_of(config: Config, report: AuditReport) -> Path:
    """Where the report goes unless told otherwise."""
    return Path(config.output) / report.study.digest[:12] / FOLDER


def _refused(why: str) -> WardroundError:
    return WardroundError(
        Code.CONFIGURATION,
        f"An audit from here takes public or synthetic data only, and {why} It learns as much as "
        "it can about single patients, without noise.",
        remedy="Audit the same study on a task with public data (`wardround tasks`), or ask the "
        "hospital's operator to run `wardround-site audit privacy STUDY` there.",
    )
