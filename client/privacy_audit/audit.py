"""The audit of a study on patients that are at hand: many runs, then one run with canaries."""

from __future__ import annotations

from client.data.cohort import Cohort
from client.privacy_audit import many_runs, one_run
from client.privacy_audit.finding import Finding
from client.privacy_audit.many_runs import Progress
from client.privacy_audit.released_sums import AuditedStudy
from protocol.errors import Code, WardroundError
from protocol.models.audit_effort import CANARIES, RUNS
from protocol.study.study import Study
from tasks.base import Task

_FEWEST_RUNS, _FEWEST_CANARIES, _FEWEST_PATIENTS = 100, 16, 2


def audit(
    study: Study, task: Task, patients: Cohort, runs: int, canaries: int, progress: Progress
) -> tuple[Finding, ...]:
    """Runs the study's training and evaluation code against its claim. Nothing leaves the process.

    Raises WardroundError: CONFIGURATION for a study that claims nothing of training, or whose model
    cannot be trained privately; USAGE for too few runs or canaries; TOO_FEW_PATIENTS.
    """
    if study.query is not None or not study.privacy.traits.private:
        raise WardroundError(
            Code.CONFIGURATION,
            "There is nothing to audit: this study claims no epsilon for training.",
            remedy="Choose privacy=local or privacy=distributed.",
        )
    if runs < _FEWEST_RUNS or canaries < _FEWEST_CANARIES:
        raise WardroundError(
            Code.USAGE,
            f"An audit takes {_FEWEST_RUNS} runs and {_FEWEST_CANARIES} canaries at least.",
            remedy=f"{RUNS} and {CANARIES} are the usual numbers; more find smaller faults.",
        )
    if len(patients.labels) < _FEWEST_PATIENTS:
        raise WardroundError(Code.TOO_FEW_PATIENTS, "An audit takes two patients at least.")
    seed = study.optimisation.seed
    found = many_runs.audit(AuditedStudy.of(study, task), patients, runs, seed, progress)
    return (*found, one_run.audit(study, task, patients, canaries, seed, progress))
