"""The site's patients for a study: files and view of site.yaml -> cohort, under the policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from client.cohorts.feature_cache import features_of
from client.cohorts.image_columns import Progress, image_tables, with_pictures
from client.cohorts.patient_index import patients_by_name, refuse_two_names, with_one_name
from client.cohorts.query_counts import QueryContributor
from client.config.resource_limits import database_memory
from client.config.site_config import SiteConfig, View
from client.data import view_reader
from client.data.cohort import Cohort
from client.data.sources.attrition import Attrition, look
from client.data.sources.session import Session
from client.data.sources.view_sandbox import ParsedView
from protocol.errors import Code, WardroundError
from protocol.study.study import Evaluation, Study
from tasks.base import Task
from tasks.schema import PATIENT, Table

Named = Callable[[Mapping[str, Mapping[str, str]]], None]
"""Receives, for each task, the patients whom the patient index gives to names: to all in the view
that was read, and to all in the index that another task's view might use."""


def read_table(
    config: SiteConfig,
    task: str,
    note: Callable[[str], None] = lambda remark: None,
    named: Named = lambda names: None,
) -> Table:
    """The view's columns, with one name for each patient; `note` receives each remark.

    Raises WardroundError: NO_DATA, MALFORMED_DATA, CREDENTIALS, CONFIGURATION."""
    source = config.data.get(task)
    if source is None:
        raise WardroundError(
            Code.NO_DATA,
            f"This site has no data for the task {task}.",
            remedy=f"Add data.{task} to site.yaml, or leave {task} out of policy.tasks.",
        )
    table = _read(config, source, note)
    if PATIENT not in table:
        return table
    if config.patients is None:
        refuse_two_names(table)
        return table
    index = _read(config, config.patients, note)
    known = {
        name: patients_by_name(index, other.names or PATIENT) for name, other in config.data.items()
    }
    table, used = with_one_name(table, known[task], note)
    named(known | {task: used})
    return table


def attrition_of(config: SiteConfig, task: str) -> Attrition:
    """The rows of each step of a task's view. Raises as `read_table` does."""
    found: list[Attrition] = []
    _read(config, config.data[task], lambda _: None, lambda *of: found.append(look(*of)))
    return found[0]


def _read(
    config: SiteConfig,
    view: View,
    note: Callable[[str], None],
    inspect: Callable[[Session, ParsedView], None] | None = None,
) -> Table:
    policy = config.policy
    with image_tables(config) as extras:
        return view_reader.read(
            view,
            view.sql,
            extras=extras,
            note=note,
            memory_limit=database_memory(policy),
            threads=policy.threads,
            time_zone=config.time_zone,
            inspect=inspect,
        )


def build_cohort(
    config: SiteConfig,
    task: Task,
    split: Callable[[str], float],
    evaluation: Evaluation,
    progress: Progress = lambda done, of: None,
    named: Named = lambda names: None,
) -> Cohort:
    """The cohort, unless it is too small: then the error does not give the number of patients.

    `progress(done, of)` is called for pictures that are decoded for the first time.
    Raises WardroundError: TOO_FEW_PATIENTS, and what `read_table`, `with_pictures` and
    `Cohort.build` raise.
    """
    remarks: list[str] = []
    rows = read_table(config, task.name, remarks.append, named)
    table, notes = with_pictures(config, task, rows, progress)
    cohort = Cohort.build(task, table, split, evaluation, partial(features_of, config.state))
    config.policy.check_patients(cohort.patients)
    return replace(cohort, notes=(*remarks, *notes, *cohort.notes))


def build_query_contributor(config: SiteConfig, task: Task, study: Study) -> QueryContributor:
    """The task's records for a query, unless they are of too few patients.

    Raises WardroundError: TOO_FEW_PATIENTS, and what `read_table` and `QueryContributor.of` raise.
    """
    contributor = QueryContributor.of(study, task.schema, read_table(config, task.name))
    config.policy.check_patients(contributor.records.patients)
    return contributor


def loader(
    config: SiteConfig,
    split: Callable[[str], float],
    notes: Callable[[Study, Cohort], None],
    confirm_names: Callable[[Study, Mapping[str, Mapping[str, str]]], None] = (
        lambda study, names: None
    ),
) -> Callable[[Task, Study], Cohort]:
    """The function by which `client.daemon.site.Site` loads cohorts; each goes to `notes` too.

    confirm_names: told before the study's first debit by which names its patients go
    (`SiteGovernance.confirm_names`).
    """

    def load(task: Task, study: Study) -> Cohort:
        names: dict[str, Mapping[str, str]] = {}
        cohort = build_cohort(config, task, split, study.evaluation, named=names.update)
        confirm_names(study, names)
        notes(study, cohort)
        return cohort

    return load
