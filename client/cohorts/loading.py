"""The site's patients for a study: files and view of site.yaml -> cohort, under the policy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from client.cohorts.feature_cache import features_of
from client.cohorts.image_columns import Progress, image_tables, with_pictures
from client.cohorts.query_counts import QueryContributor
from client.config.resource_limits import database_memory
from client.config.site_config import SiteConfig
from client.data import view_reader
from client.data.cohort import Cohort
from protocol.errors import Code, WardroundError
from protocol.study.study import Evaluation, Study
from tasks.base import Task
from tasks.schema import Table


def read_table(config: SiteConfig, task: str, note: Callable[[str], None] | None = None) -> Table:
    """The view's columns; `note` receives each remark on the sources.

    Raises WardroundError: NO_DATA, MALFORMED_DATA, CREDENTIALS, CONFIGURATION."""
    source = config.data.get(task)
    if source is None:
        raise WardroundError(
            Code.NO_DATA,
            f"This site has no data for the task {task}.",
            remedy=f"Add data.{task} to site.yaml, or leave {task} out of policy.tasks.",
        )
    policy = config.policy
    with image_tables(config) as extras:
        return view_reader.read(
            source,
            source.sql,
            extras=extras,
            note=note,
            memory_limit=database_memory(policy),
            threads=policy.threads,
        )


def build_cohort(
    config: SiteConfig,
    task: Task,
    split: Callable[[str], float],
    evaluation: Evaluation,
    progress: Progress = lambda done, of: None,
) -> Cohort:
    """The cohort, unless it is too small: then the error does not give the number of patients.

    `progress(done, of)` is called for pictures that are decoded for the first time.
    Raises WardroundError: TOO_FEW_PATIENTS, and what `read_table`, `with_pictures` and
    `Cohort.build` raise.
    """
    remarks: list[str] = []
    rows = read_table(config, task.name, remarks.append)
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
    config: SiteConfig, split: Callable[[str], float], notes: Callable[[Study, Cohort], None]
) -> Callable[[Task, Study], Cohort]:
    """The function by which `client.daemon.site.Site` loads cohorts; each goes to `notes` too."""

    def load(task: Task, study: Study) -> Cohort:
        cohort = build_cohort(config, task, split, study.evaluation)
        notes(study, cohort)
        return cohort

    return load
