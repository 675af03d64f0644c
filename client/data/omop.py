"""An OMOP CDM: its tables under the names of version 5.4, from a folder or a database.

OHDSI Common Data Model 5.4 (ohdsi.github.io/CommonDataModel/cdm54.html). Of version 5.3 columns
have the names of 5.4, and those that it lacks are NULL (cdm54Changes.html there). Only the tables
that a view names are read. Another version has other columns and is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path

import duckdb

from client.data.sources import clock, column_types
from client.data.sources.column_types import ColumnType
from client.data.sources.files import packed, tables
from client.data.sources.session import Session, quoted
from client.data.sources.settings import Omop
from protocol.errors import Code, WardroundError

VERSIONS = ("5.3", "5.4")
_CLINICAL = (
    "person", "observation_period", "visit_occurrence", "visit_detail", "condition_occurrence",
    "drug_exposure", "procedure_occurrence", "device_exposure", "measurement", "observation",
    "death", "note", "note_nlp", "specimen", "fact_relationship", "location", "care_site",
    "provider", "payer_plan_period", "cost", "drug_era", "dose_era", "condition_era", "episode",
    "episode_event", "metadata", "cdm_source", "cohort", "cohort_definition",
)  # fmt: skip
_VOCABULARY = (
    "concept", "vocabulary", "domain", "concept_class", "concept_relationship", "relationship",
    "concept_synonym", "concept_ancestor", "source_to_concept_map", "drug_strength",
)  # fmt: skip
TABLES = (*_CLINICAL, *_VOCABULARY)
_INTEGERS = ("year_of_birth", "month_of_birth", "day_of_birth", "days_supply", "refills",
             "modifier_concept_id")  # fmt: skip
_NUMBERS = ("value_as_number", "quantity", "range_low", "range_high", "amount_value", "dose_value",
            "latitude", "longitude")  # fmt: skip
_TEXT_IDS = ("domain_id", "vocabulary_id", "concept_class_id", "relationship_id",
             "source_vocabulary_id", "target_vocabulary_id", "unique_device_id", "production_id",
             "reverse_relationship_id")  # fmt: skip
_TEXTS = ("_source_value", "_code", "_name", "_version", "standard_concept", "invalid_reason")
"""Endings of columns that are texts, whatever digits stand in them: a record number has zeros."""
_OPTIONAL = {
    "cdm_source": {"source_release_date": "DATE"},
    "visit_occurrence": {"visit_type_concept_id": "BIGINT", "visit_source_concept_id": "BIGINT"},
    "observation": {"observation_source_concept_id": "BIGINT"},
    "drug_exposure": {"drug_exposure_start_datetime": "TIMESTAMP"},
    "concept": {"standard_concept": "VARCHAR"},
}
"""Columns, with their types, that shipped views read and a site may leave out."""
_VISITS = {
    "admitting_source_concept_id": "admitted_from_concept_id",
    "admitting_source_value": "admitted_from_source_value",
    "discharge_to_concept_id": "discharged_to_concept_id",
    "discharge_to_source_value": "discharged_to_source_value",
}
_RENAMED = {
    "visit_occurrence": _VISITS,
    "visit_detail": _VISITS | {"visit_detail_parent_id": "parent_visit_detail_id"},
}
"""Names of 5.3 -> those of 5.4."""
_SINCE_5_4 = {
    "procedure_occurrence": {
        "procedure_end_date": "DATE",
        "procedure_end_datetime": "TIMESTAMP",
    },
    "device_exposure": {
        "production_id": "VARCHAR",
        "unit_concept_id": "BIGINT",
        "unit_source_value": "VARCHAR",
        "unit_source_concept_id": "BIGINT",
    },
    "measurement": {
        "unit_source_concept_id": "BIGINT",
        "measurement_event_id": "BIGINT",
        "meas_event_field_concept_id": "BIGINT",
    },
    "observation": {
        "value_source_value": "VARCHAR",
        "observation_event_id": "BIGINT",
        "obs_event_field_concept_id": "BIGINT",
    },
    "note": {"note_event_id": "BIGINT", "note_event_field_concept_id": "BIGINT"},
    "location": {
        "country_concept_id": "BIGINT",
        "country_source_value": "VARCHAR",
        "latitude": "DOUBLE",
        "longitude": "DOUBLE",
    },
    "metadata": {"metadata_id": "BIGINT", "value_as_number": "DOUBLE"},
}
"""Columns of 5.4, with their types, that 5.3 lacks."""


def register(session: Session, cdm: Omop, named: Collection[str]) -> None:
    """Makes a view of each table of the CDM that is in `named` (lower case), and no other.

    Raises WardroundError: NO_DATA for a table that is not there, MALFORMED_DATA for a file that
    is broken or for a version that is none of `VERSIONS`.
    """
    _table(session, cdm, "cdm_source", None)
    version = _version(session, str(cdm.folder or cdm.database))
    for name in sorted(set(named) & set(TABLES) - {"cdm_source"}):
        _table(session, cdm, name, version)


def _table(session: Session, cdm: Omop, name: str, version: str | None) -> None:
    optional, renamed = _OPTIONAL.get(name, {}), dict[str, str]()
    if version == "5.3":
        optional = optional | _SINCE_5_4.get(name, {})
        renamed = _RENAMED.get(name, {})
    if cdm.folder is not None:
        _from_file(session, cdm.folder, name, optional, renamed)
    elif cdm.database is not None:
        _from_database(session, cdm.database, name, optional, renamed)


def _missing(where: str, name: str) -> WardroundError:
    return WardroundError(
        Code.NO_DATA,
        f"The OMOP CDM {where} has no table {name}.",
        remedy="Export it too; a table without rows needs its header line at least.",
    )


def _from_file(
    session: Session,
    folder: Path,
    name: str,
    optional: Mapping[str, str],
    renamed: Mapping[str, str],
) -> None:
    if not folder.is_dir():
        raise WardroundError(
            Code.NO_DATA, f"{folder} is no folder.", remedy="Correct omop.folder in site.yaml."
        )
    paths = [path for path in sorted(folder.iterdir()) if _table_of(path) == name]
    if not paths:
        raise _missing(str(folder), name)
    if len(paths) > 1:
        raise WardroundError(
            Code.MALFORMED_DATA,
            f"{folder} holds the table {name} twice: {paths[0].name} and {paths[1].name}.",
            remedy="Take one of them away.",
        )
    path = paths[0] / "*.parquet" if paths[0].is_dir() else paths[0]
    fixed, bare_tabs = partial(_types, session.zoned), name in _VOCABULARY
    tables.register(
        session,
        name,
        path,
        fixed=fixed,
        bare_tabs=bare_tabs,
        optional=optional,
        renamed=renamed,
    )


def _table_of(path: Path) -> str | None:
    stem = path.name.lower()
    if path.is_dir():
        return stem if any(path.glob("*.parquet")) else None
    for suffix in (*packed.SUFFIXES, *tables.READABLE):
        stem = stem.removesuffix(suffix)
    return stem if path.name.lower() != stem else None


def _types(zoned: bool, column: str) -> Sequence[ColumnType] | None:
    """The types of a column by the CDM's rules for names; None where a file may decide."""
    if column.startswith("valid_"):
        return None  # Athena writes 20991231, others 2099-12-31
    if column in _TEXT_IDS or column.endswith(_TEXTS):
        return (column_types.TEXT,)
    if column.endswith("_id") or column in _INTEGERS:
        return (column_types.WHOLE,)
    if column.endswith("_datetime"):
        return (column_types.DATE, *column_types.times(zoned=zoned))
    if column.endswith("_date"):
        return (column_types.DAY,)
    return (column_types.FLOAT,) if column in _NUMBERS else None


def _from_database(
    session: Session,
    database: str,
    name: str,
    optional: Mapping[str, str],
    renamed: Mapping[str, str],
) -> None:
    schema = session.databases[database]
    session.check_name(name)
    session.check_faithful(database, name)
    try:
        table = f"{quoted(database)}.{quoted(schema)}.{quoted(name)}"
        session.view(name, clock.on_the_clock(session, table), optional, renamed)
    except duckdb.CatalogException:
        raise _missing(f"in the database {database}", name) from None


def _version(session: Session, where: str) -> str:
    """One of `VERSIONS`, as cdm_source states it."""
    found: set[str] = set()
    try:
        rows = session.connection.execute("SELECT DISTINCT cdm_version FROM cdm_source").fetchall()
    except duckdb.BinderException:
        rows = []
    for (version,) in rows or [("",)]:
        number = re.search(r"(?<![\d.])(\d{1,2}\.\d{1,2})", str(version or ""))
        if number is None or number[1] not in VERSIONS:
            said = f"version {number[1]}" if number else "a version that it does not say"
            raise WardroundError(
                Code.MALFORMED_DATA,
                f"The OMOP CDM {where} is of {said} (cdm_source.cdm_version).",
                remedy=f"wardround reads {' and '.join(VERSIONS)}; migrate, or write a view over"
                " `files`.",
            )
        found.add(number[1])
    if len(found) > 1:
        raise WardroundError(
            Code.MALFORMED_DATA,
            f"The OMOP CDM {where} is of versions {' and '.join(sorted(found))}.",
            remedy="Leave one row in cdm_source, that of the tables' version.",
        )
    return found.pop()
