"""A FHIR export -> one table for each ViewDefinition, in the session's memory.

The export is read in a stream; only what a view selects is stored, compressed. A resource that
comes twice counts once, in its newest version; references that lead nowhere are counted, in a note
to the site.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from client.data.fhir import resources
from client.data.fhir.keys import conditional_keys, resource_key
from client.data.fhir.operators import text
from client.data.fhir.values import FhirPathError, Quantity
from client.data.fhir.view_definition import Row, ViewColumn, ViewDefinition, load, sql_type
from client.data.sources import clock
from client.data.sources.session import Session, literal, quoted
from client.data.sources.settings import Fhir
from protocol.errors import Code, WardroundError

_STORE = '"fhir rows"'
"""A catalogue that no view can name: a database's name has no space."""
_BATCH = 4096
_SQL_NAMES = ("DATE", "TIMESTAMP", "INTEGER", "BIGINT", "SMALLINT", "DOUBLE", "REAL", "BOOLEAN",
              "TIME", "VARCHAR")  # fmt: skip
_CASTS = dict(zip(_SQL_NAMES, _SQL_NAMES, strict=True)) | {
    "DOUBLE PRECISION": "DOUBLE", "CHARACTER VARYING": "VARCHAR"}  # fmt: skip


_TIMES = ("date", "dateTime", "instant")


def register(session: Session, export: Fhir) -> None:
    """Makes the tables.

    Raises WardroundError: NO_DATA, MALFORMED_DATA naming file and line, CONFIGURATION for a
    ViewDefinition that is not valid; duckdb.Error where memory does not suffice.
    """
    views = [view for path in export.views for view in load(path)]
    if not views:
        raise WardroundError(
            Code.CONFIGURATION,
            "fhir names no ViewDefinition.",
            remedy="Add fhir.views in site.yaml, or use view: template:fhir.",
        )
    session.connection.execute(f"ATTACH ':memory:' AS {_STORE} (COMPRESS)")
    session.connection.execute(
        f"CREATE TABLE {_STORE}.keys (key UHUGEINT, ordinal BIGINT, updated TIMESTAMPTZ)"
    )
    session.connection.execute(f"CREATE TABLE {_STORE}.identifiers (named UHUGEINT, key VARCHAR)")
    names = [view.name.lower() for view in views]
    for view in views:
        session.check_name(view.name)
        if names.count(view.name.lower()) > 1:
            raise WardroundError(
                Code.CONFIGURATION,
                f"Two ViewDefinitions are named {view.name}, {view.source} one of them.",
                remedy="Rename one of them.",
            )
    tables = [_FlatTable(session, view) for view in views]
    _load(session, export.folder, tables)
    _keep_newest(session, tables)
    in_utc = list[str]()
    for table in tables:
        _resolve_identifiers(session, table)
        _count_dangling(session, table)
        in_utc += _expose(session, table)
    if in_utc and not session.zoned:
        more = f" and {len(in_utc) - 1} more" if len(in_utc) > 1 else ""
        session.note(
            f"Times are told in UTC ({in_utc[0]}{more}): until site.yaml states time_zone, a day is"
            " one of UTC."
        )


class _FlatTable:
    """One view's rows on their way into the store."""

    def __init__(self, session: Session, view: ViewDefinition) -> None:
        self.view = view
        self.name = f"{_STORE}.{quoted(view.name)}"
        self._session = session
        self._pending: list[dict[str, Any]] = []
        types = {"ordinal": "BIGINT"} | {
            f"c{k}": sql_type(column.type) + ("[]" if column.collection else "")
            for k, column in enumerate(view.columns)
        }
        columns = ", ".join(f"{name} {kind}" for name, kind in types.items())
        session.connection.execute(f"CREATE TABLE {self.name} ({columns})")
        self._insert = f"INSERT INTO {self.name} {_from_json(types)}"

    def add(self, ordinal: int, row: Row) -> None:
        cells: dict[str, Any] = {"ordinal": ordinal}
        for k, (column, value) in enumerate(zip(self.view.columns, row, strict=True)):
            cells[f"c{k}"] = _cell(column, value)
        self._pending.append(cells)
        if len(self._pending) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        if self._pending:
            self._session.connection.execute(self._insert, [json.dumps(self._pending)])
            self._pending.clear()


def _from_json(types: dict[str, str]) -> str:
    """SELECT of rows out of one JSON text, the statement's parameter."""
    shape = {name: [kind[:-2]] if kind.endswith("[]") else kind for name, kind in types.items()}
    columns = ", ".join(f"r.{name}" for name in types)
    return (
        f"SELECT {columns} FROM (SELECT unnest(from_json_strict(CAST(? AS JSON),"
        f" {literal(json.dumps([shape]))})) AS r)"
    )


def _cell(column: ViewColumn, value: Any) -> Any:
    """As JSON for the column's SQL type. Raises FhirPathError where it does not fit."""
    if value is None:
        return None
    return [_scalar(column, x) for x in value] if column.collection else _scalar(column, value)


def _scalar(column: ViewColumn, value: Any) -> Any:
    kind = sql_type(column.type)
    if kind == "VARCHAR":
        if type(value) is str:
            return value
        if type(value) is dict or type(value) is list:
            return json.dumps(value, default=_number)
        return text(value)
    if kind == "BOOLEAN" and type(value) is bool:
        return value
    if kind == "BIGINT" and type(value) is int and abs(value) < 2**63:
        return value
    number = value.value if type(value) is Quantity else value
    if kind == "DOUBLE" and type(number) in (int, Decimal):
        return float(number)
    raise FhirPathError(f"column {column.name} is of type {column.type}, a value of it is not")


def _number(value: Any) -> Any:
    return float(value) if type(value) is Decimal else text(value)


def _load(session: Session, folder: Path, tables: Sequence[_FlatTable]) -> None:
    targets = {t for table in tables for c in table.view.columns if (t := c.refers_to)}
    viewed = {table.view.resource for table in tables}
    wanted = None if "*" in targets else viewed | targets
    ordinal, keys, named = 0, list[dict[str, Any]](), list[dict[str, Any]]()
    insert_named = (
        f"INSERT INTO {_STORE}.identifiers SELECT md5_number(n), k"
        f" FROM ({_from_json({'n': 'VARCHAR', 'k': 'VARCHAR'})})"
    )
    insert = (
        f"INSERT INTO {_STORE}.keys SELECT md5_number(k), o, instant(u)"
        f" FROM ({_from_json({'k': 'VARCHAR', 'o': 'BIGINT', 'u': 'VARCHAR'})})"
    )
    absent = set(viewed)
    for file in resources.files_of(folder):
        session.allow(file)
        for place, resource in resources.read(file, wanted):
            kind = resource["resourceType"]
            if wanted is not None and kind not in wanted:
                continue
            ordinal += 1
            absent.discard(kind)
            if key := resource_key(resource):
                meta = resource.get("meta")
                updated = meta.get("lastUpdated") if type(meta) is dict else None
                keys.append({"k": key, "o": ordinal, "u": updated})
                if wanted is None or kind in targets:
                    named += ({"n": name, "k": key} for name in conditional_keys(resource))
            for table in tables:
                _add(table, ordinal, resource, place)
            if len(named) >= _BATCH:
                session.connection.execute(insert_named, [json.dumps(named)])
                named.clear()
            if len(keys) >= _BATCH:
                session.connection.execute(insert, [json.dumps(keys)])
                keys.clear()
    if keys:
        session.connection.execute(insert, [json.dumps(keys)])
    if named:
        session.connection.execute(insert_named, [json.dumps(named)])
    for table in tables:
        table.flush()
    for kind in sorted(absent):
        session.note(f"The FHIR export holds no {kind}.")


def _add(table: _FlatTable, ordinal: int, resource: dict[str, Any], place: str) -> None:
    try:
        for row in table.view.rows(resource):
            table.add(ordinal, row)
    except FhirPathError as error:
        raise WardroundError(
            Code.MALFORMED_DATA,
            f"{place}, read by {table.view.source}: {error}.",
            remedy="Correct the ViewDefinition, or the resource.",
        ) from None


def _keep_newest(session: Session, tables: Sequence[_FlatTable]) -> None:
    """Of resources with one key, the last updated; where that is not said, the last read."""
    old = (
        "SELECT ordinal FROM (SELECT ordinal, row_number() OVER (PARTITION BY key"
        f" ORDER BY updated DESC NULLS LAST, ordinal DESC) AS place FROM {_STORE}.keys)"
        " WHERE place > 1"
    )
    [(repeated,)] = session.connection.execute(
        f"SELECT count(*) - count(DISTINCT key) FROM {_STORE}.keys"
    ).fetchall()
    if repeated:
        for table in tables:
            session.connection.execute(f"DELETE FROM {table.name} WHERE ordinal IN ({old})")
        session.note(f"{repeated} FHIR resources came more than once: the newest counts.")


def _resolve_identifiers(session: Session, table: _FlatTable) -> None:
    """Gives references by an identifier the key of the one resource that has it, or none: an
    identifier that two resources share names neither."""
    known = (
        f"(SELECT named, min(key) AS key FROM {_STORE}.identifiers"
        " GROUP BY named HAVING count(DISTINCT key) = 1)"
    )
    for k, column in enumerate(table.view.columns):
        if column.refers_to is None or column.collection:
            continue
        conditional = f"contains(c{k}, '?identifier=')"
        [(total,)] = session.connection.execute(
            f"SELECT count(*) FROM {table.name} WHERE {conditional}"
        ).fetchall()
        if not total:
            continue
        session.connection.execute(
            f"UPDATE {table.name} SET c{k} = known.key FROM {known} known"
            f" WHERE {conditional} AND known.named = md5_number(c{k})"
        )
        [(lost,)] = session.connection.execute(
            f"SELECT count(*) FROM {table.name} WHERE {conditional}"
        ).fetchall()
        if lost:
            session.connection.execute(f"UPDATE {table.name} SET c{k} = NULL WHERE {conditional}")
            session.note(
                f"{lost} of {total} references by identifier in {table.view.name}.{column.name}"
                " name no resource of the FHIR export, or several."
            )


def _count_dangling(session: Session, table: _FlatTable) -> None:
    for k, column in enumerate(table.view.columns):
        if column.refers_to is None:
            continue
        values = f"unnest(c{k})" if column.collection else f"c{k}"
        [(lost, total)] = session.connection.execute(
            f"SELECT count(*) FILTER (WHERE md5_number(r) NOT IN (SELECT key FROM {_STORE}.keys)),"
            f" count(*) FROM (SELECT {values} AS r FROM {table.name}) WHERE r IS NOT NULL"
        ).fetchall()
        if lost:
            what = "resource" if column.refers_to == "*" else column.refers_to
            session.note(
                f"{lost} of {total} references in {table.view.name}.{column.name} lead to a {what}"
                " that the FHIR export does not hold."
            )


def _expose(session: Session, table: _FlatTable) -> list[str]:
    """Makes the table. Returns its columns of times that are told in UTC alone."""
    selected, in_utc = [], []
    for k, column in enumerate(table.view.columns):
        tag = _CASTS.get((column.tag or "").upper().split("(")[0].strip())
        text = f"c{k}"
        if column.type in _TIMES and not column.collection:
            written = clock.written_times(session, table.name, text)
            _check_clock(session, table, column, written)
            if written.are_days:
                text = written.day(text)
            elif written.utc and not written.local:
                in_utc.append(f"{table.view.name}.{column.name}")
        value = (
            text if tag is None or column.collection else _cast(session, table, column, text, tag)
        )
        selected.append(f"{value} AS {quoted(column.name)}")
    session.view(table.view.name, f"SELECT {', '.join(selected)} FROM {table.name}")
    return in_utc


def _check_clock(
    session: Session, table: _FlatTable, column: ViewColumn, written: clock.WrittenTimes
) -> None:
    """Raises WardroundError(MALFORMED_DATA) where some times lack an offset and no time zone is
    stated; a note where the offsets make two calendars."""
    if written.partly_without_offset and not session.zoned:
        raise WardroundError(
            Code.MALFORMED_DATA,
            f"Column {column.name} of {table.view.source} holds times of which only some have an"
            " offset from UTC.",
            remedy="State time_zone in site.yaml.",
        )
    if written.two_clocks and not session.zoned:
        session.note(
            f"{table.view.name}.{column.name} is told in UTC and at other offsets: until site.yaml"
            " states time_zone, a day is the one that is written."
        )


def _cast(session: Session, table: _FlatTable, column: ViewColumn, text: str, kind: str) -> str:
    """The expression that reads the texts as the SQL type that is wanted.

    Raises WardroundError(MALFORMED_DATA) where one of them is none.
    """
    ways = {"DATE": ["calendar_day({})"], "TIMESTAMP": ["instant({})", "TRY_CAST({} AS TIMESTAMP)"]}
    for way in ways.get(kind, [f"TRY_CAST({{}} AS {kind})"]):
        value = way.format(text)
        unfit = session.connection.execute(
            f"SELECT count(*) FROM {table.name} WHERE {text} IS NOT NULL AND {value} IS NULL"
        ).fetchone()
        if unfit == (0,):
            return value
    raise WardroundError(
        Code.MALFORMED_DATA,
        f"Column {column.name} of {table.view.source} holds what is no {kind}.",
        remedy="FHIR's dates may end at the month or year: leave the tag out, and use instant() or"
        " calendar_day() in the view.",
    )
