"""The site's patients for a study: files and view of site.yaml -> cohort, under the policy."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from client.cohorts import objections
from client.cohorts.exact_sums import contributor_of
from client.cohorts.feature_cache import features_of
from client.cohorts.image_columns import (
    Progress,
    image_tables,
    imaging_of,
    pseudonyms,
    with_pictures,
)
from client.cohorts.patient_index import names_in, patients_by_name, refuse_two_names, with_one_name
from client.cohorts.query_counts import QueryContributor, count_patients
from client.cohorts.site_comparison import seen_here, write_page
from client.config.resource_limits import database_memory
from client.config.site_config import Objections, SiteConfig, Source, View
from client.data import view_reader
from client.data.cohort import Cohort, identifiers, identities
from client.data.sources.attrition import Attrition, measure
from client.data.view_reader import Inspection
from client.log_events import event
from protocol.errors import Code, WardroundError
from protocol.study.query import SITES_THAT, Query
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
    inspection: Inspection[Any] | None = None,
) -> Table:
    """The view's columns, with one name for each patient and without those who object; `note`
    receives each remark.

    Raises WardroundError: NO_DATA, MALFORMED_DATA, CREDENTIALS, CONFIGURATION."""
    source = config.data.get(task)
    if source is None:
        raise WardroundError(
            Code.NO_DATA,
            f"This site has no data for the task {task}.",
            remedy=f"Add data.{task} to site.yaml, or leave {task} out of policy.tasks.",
        )
    listed = _objections(config)
    table = _read(config, source, note, inspection, without=listed)
    if PATIENT not in table:
        return table
    if config.patients is None:
        refuse_two_names(table)
        return _without(table, listed and objections.objecting(listed, _own_names(table)))
    index = _read(config, config.patients, note, without=listed)
    gone = listed and objections.objecting(listed, _indexed(config, index))
    known = {
        name: patients_by_name(index, other.names or PATIENT, without=gone)
        for name, other in config.data.items()
    }
    theirs = {name for name, patient in names_in(index, source.names or PATIENT) if patient in gone}
    table, used = with_one_name(_without(table, theirs), known[task], note)
    named(known | {task: used})
    return table


def read_images(config: SiteConfig, task: Task) -> Table:
    """The images that are ready, by columns of the index, with the key as `image`; named and left
    out as in `read_table`, by the names of the task's view if it has one.

    Raises WardroundError as `read_table` does, and CONFIGURATION without `imaging`."""
    imaging_of(config, task)
    names = config.data[task.name].names if task.name in config.data else None
    images = Source(view="SELECT * FROM images", names=names)
    return read_table(
        config.model_copy(update={"data": config.data | {task.name: images}}), task.name
    )


def _own_names(table: Table) -> list[tuple[str, str]]:
    return [(name, name) for name in set(identifiers(table[PATIENT]))]


def _indexed(config: SiteConfig, index: Table) -> list[tuple[str, str]]:
    """The index's column that has the objections' identifiers, and their patients."""
    column = config.objections and config.objections.names
    return names_in(index, column or PATIENT)


def _without(table: Table, patients: Collection[str]) -> Table:
    if not patients:
        return table
    kept = np.array([name not in patients for name in identifiers(table[PATIENT])], dtype=bool)
    return {column: values[kept] for column, values in table.items()}


def _objections(config: SiteConfig) -> Set[str]:
    """Each name by which a patient who objects may go in a view: as listed, and the pseudonyms.

    Raises WardroundError with the code of what is wrong with the list."""
    listed = _listed(config)
    return listed.union(*pseudonyms(config, listed))


def _listed(config: SiteConfig) -> frozenset[str]:
    match config.objections:
        case None:
            return frozenset()
        case Objections(file=Path() as file):
            return objections.in_file(file)
        case Objections(query=View() as query):
            try:
                return objections.in_query(_read(config, query, lambda remark: None))
            except WardroundError as error:
                text = f"The objections cannot be read, and every study is refused. {error.message}"
                raise WardroundError(error.code, text, remedy=error.remedy) from None
        case _:
            raise AssertionError("SiteConfig has checked that there is a file or a query")


def objecting_names(config: SiteConfig) -> Set[str]:
    """Each name by which a patient who objects may go in a table that `read_table` made earlier.

    Raises WardroundError as `read_table` does where the list or the index cannot be read."""
    listed = _objections(config)
    if config.patients is None or not listed:
        return listed
    index = _read(config, config.patients, lambda remark: None, without=listed)
    return listed | objections.objecting(listed, _indexed(config, index))


def who_objects(config: SiteConfig) -> bytes:
    """The same bytes, in this process, as long as the same identifiers are listed.

    Raises WardroundError as `read_table` does where the list cannot be read."""
    return identities(sorted(_listed(config))).tobytes()


def count_objections(config: SiteConfig) -> tuple[int, int]:
    """How many identifiers are listed, and how many of them name somebody in a picture and in the
    patient index or, without one, in a view that can be read. Raises WardroundError where the list
    cannot be read."""
    listed = _listed(config)
    alone, pictured = pseudonyms(config, listed)
    as_listed = {name: name for name in listed} | alone | pictured
    found = set(pictured.values())
    for names in _all_names(config, frozenset(as_listed)):
        objections.objecting(as_listed, names)
        found |= {as_listed[name] for name, _ in names if name in as_listed}
    return len(listed), len(found)


def _all_names(config: SiteConfig, without: Set[str]) -> Iterator[list[tuple[str, str]]]:
    """Names and patients, of each source that says by which names patients go."""
    if config.patients is not None:
        index = _read(config, config.patients, lambda remark: None, without=without)
        yield _indexed(config, index)
        return
    for source in config.data.values():
        with suppress(WardroundError):  # the view's own check says why
            yield _own_names(_read(config, source, lambda remark: None, without=without))


def attrition_of(config: SiteConfig, task: str) -> Attrition:
    """The rows of each step of a task's view. Raises as `read_table` does."""
    found: list[Attrition] = []
    inspection = Inspection(measure, found.append)
    _read(config, config.data[task], lambda _: None, inspection)
    return found[0]


def _read(
    config: SiteConfig,
    view: View,
    note: Callable[[str], None],
    inspection: Inspection[Any] | None = None,
    without: Set[str] = frozenset(),
) -> Table:
    policy = config.policy
    return view_reader.read(
        view,
        view.sql,
        extras=image_tables(config, without),
        note=note,
        memory=database_memory(policy),
        threads=policy.threads,
        time_zone=config.time_zone,
        inspection=inspection,
    )


def build_cohort(
    config: SiteConfig,
    task: Task,
    split: Callable[[str], float],
    evaluation: Evaluation,
    progress: Progress = lambda done, of: None,
    named: Named = lambda names: None,
    inspection: Inspection[Any] | None = None,
) -> Cohort:
    """The cohort, unless it is too small: then the error does not give the number of patients.

    `progress(done, of)` is called for pictures that are decoded for the first time.
    Raises WardroundError: TOO_FEW_PATIENTS, and what `read_table`, `with_pictures` and
    `Cohort.build` raise.
    """
    if task.schema.images:
        imaging_of(config, task)  # before a view that reads them fails for another reason
    remarks: list[str] = []
    rows = read_table(config, task.name, remarks.append, named, inspection)
    table, notes = with_pictures(config, task, rows, progress)
    cohort = Cohort.build(task, table, split, evaluation, partial(features_of, config.state))
    config.policy.check_patients(cohort.patients)
    return replace(cohort, notes=(*remarks, *notes, *cohort.notes))


def build_query_contributor(config: SiteConfig, task: Task, study: Study) -> QueryContributor:
    """The task's records for a query, unless they are of too few patients.

    Raises WardroundError: TOO_FEW_PATIENTS, and what `read_table` and `QueryContributor.of` raise.
    """
    contributor = contributor_of(study, task, read_table(config, task.name))
    config.policy.check_patients(contributor.records.patients)
    if study.query is not None and study.query.compares_sites:
        _show_here(config, study, study.query, contributor)
    return contributor


def _show_here(
    config: SiteConfig, study: Study, query: Query, contributor: QueryContributor
) -> None:
    """Tells the site where it differs; the counts go to its own state folder alone."""
    counts = count_patients(query, contributor.records, study.evaluation.scale)
    columns = seen_here(study, counts)
    path = write_page(study, columns, config.state)
    differing = [column.name for column in columns if column.says == SITES_THAT[0]]
    event("compared with all sites", study=study.digest, differs=differing, page=path)


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
