"""Checks of the data: files, view, cohort, and one dry training step on it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

from client.checks.base import Check, CheckWarning
from client.cohorts.loading import build_cohort, count_objections, read_table
from client.cohorts.query_counts import QueryRecords
from client.config.site_config import SiteConfig
from client.data.cohort import Cohort
from client.data.sources.attrition import UncoveredCode, describe, uncovered
from client.data.view_reader import Inspection
from client.governance.patient_split import PatientSplit
from client.training.devices.choice import candidates
from client.training.dp_trainer import DPTrainer
from client.training.sampling import Patients
from client.training.self_check import self_check
from protocol.errors import Code, WardroundError
from protocol.study.study import Evaluation
from tasks import registry

_USUAL_SPLIT = Evaluation(release="exact")
"""A study may choose another."""
_MAX_BATCH = 64
"""Patients in the dry step, at most."""


def data_checks(config: SiteConfig, split: PatientSplit) -> Iterator[Check]:
    """Yields three checks for each task with data, one for a task of queries."""
    if not config.data:
        yield "data", _no_data
    if not config.policy.tasks:
        yield "policy", _no_task_allowed
    if config.patients is None and len(config.data) > 1:
        yield "patients", _names_of_their_own
    if config.objections is not None:
        yield "objections", partial(_objections, config)
    for name in sorted(config.data):
        if name in registry.installed() and not registry.load(name).schema.label:  # for queries
            yield f"data of {name}", partial(_records, config, name)
            continue
        cohorts: list[Cohort] = []
        codes: list[UncoveredCode] = []
        yield f"data of {name}", partial(_read, config, split, name, cohorts, codes)
        if codes:
            yield f"codes of {name}", partial(_codes, codes)
        yield f"independence of patients in {name}", partial(_independent, config, name)
        yield f"training {name}", partial(_dry_step, config, name, cohorts)


def _records(config: SiteConfig, name: str) -> str:
    schema = registry.load(name).schema
    records = QueryRecords(read_table(config, name), schema)
    for column in schema.columns:
        records.values(column.name)
    config.policy.check_patients(records.patients)
    return f"{records.patients} patients, for queries"


def _objections(config: SiteConfig) -> str:
    listed, found = count_objections(config)
    said = f"{listed} identifiers, of which {found} are patients here; no study sees them"
    if listed and not found:
        remedy = "Are they of the kind by which the views name patients? `names` says so."
        raise CheckWarning(said, remedy)
    return said


def _no_data() -> str:
    raise WardroundError(
        Code.NO_DATA, "site.yaml names no data.", remedy="Add `data`, as its comments show."
    )


def _names_of_their_own() -> str:
    raise CheckWarning(
        "each view has names of its own, so that what they spend is added up",
        "If site.yaml gets a patient index (`patients`), a patient counts once.",
    )


def _no_task_allowed() -> str:
    raise CheckWarning("policy.tasks allows no task", "Until it does, every study is refused.")


def _read(
    config: SiteConfig,
    split: PatientSplit,
    name: str,
    into: list[Cohort],
    codes: list[UncoveredCode],
) -> str:
    task = registry.load(name)
    cohort = build_cohort(
        config,
        task,
        split.place,
        _USUAL_SPLIT,
        inspection=Inspection(uncovered, codes.extend),
    )
    into.append(cohort)
    if cohort.notes:
        raise CheckWarning(" ".join(cohort.notes), "Training continues without what was set aside.")
    columns = ", ".join(c for c in task.schema.names[:3])
    return f"{cohort.patients} patients; columns {columns}, ... as the task wants them"


def _codes(codes: list[UncoveredCode]) -> str:
    raise CheckWarning(
        describe(codes), "`wardround-site check --cohort` says what the view looks for."
    )


def _independent(config: SiteConfig, name: str) -> str:
    devices = candidates(config.policy)
    passed = self_check(registry.load(name), trains=True, in_floats=False, devices=devices)
    return f"on invented patients and {passed.device}, no bit of one's part depends on another"


def _dry_step(config: SiteConfig, name: str, cohorts: list[Cohort]) -> str:
    if not cohorts:
        raise CheckWarning("not tried: there is no cohort")
    cohort = cohorts[0]
    task = registry.load(name)
    device = candidates(config.policy)[-1]
    learner = DPTrainer(task, 0, device.memory, device.device)
    weights = learner.model.weights()
    patients = Patients.of(task, cohort)
    batch = patients.private_sample(min(1.0, _MAX_BATCH / cohort.patients))
    started = time.monotonic()
    learner.clipped_sum(weights, batch, 1.0, 4096)
    learner.scores(weights, patients.evaluation)
    seconds = time.monotonic() - started
    return f"a dry step took {1000 * seconds:.0f} ms; nothing kept, nothing spent"
