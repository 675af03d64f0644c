"""A FHIR export -> one table for each ViewDefinition, in the session's memory.

What a view selects is kept, compressed and without what it leaves out; the export itself is read
in a stream. A resource that comes twice counts once, in its newest version; references that lead
nowhere are counted and told to the site.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from client.data.fhir import resources
from client.data.fhir.keys import resource_key
from client.data.fhir.operators import text
from client.data.fhir.temporal import Temporal
from client.data.fhir.values import FhirPathError, Quantity
from client.data.fhir.view_definition import Row, ViewColumn, ViewDefinition, load, sql_type
from client.data.sources.session import Session, literal, quoted
from client.data.sources.settings import Fhir
from protocol.errors import Code, WardroundError

_STORE = '"fhir rows"'
"""A catalogue that no view can name: a database's name has no space."""
_BATCH = 4096
_CASTS = {
    "DATE": "DATE", "TIMESTAMP": "TIMESTAMP", "INTEGER": "INTEGER", "BIGINT": "BIGINT",
    "SMALLINT": "SMALLINT", "DOUBLE PRECISION": "DOUBLE", "DOUBLE": "DOUBLE", "REAL": "REAL",
    "BOOLEAN": "BOOLEAN", "TIME": "TIME", "CHARACTER VARYING": "VARCHAR", "VARCHAR": "VARCHAR",
}  # fmt: skip


def register(session: Session, export: Fhir, check_time: Callable[[], None]) -> None:
    """Makes the tables. check_time: raises when the time allowed is over.

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
        f"CREATE TABLE {_STORE}.keys (key UHUGEINT, ordinal BIGINT, updated TIMESTAMP)"
    )
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
    _load(session, export.folder, tables, check_time)
    _keep_newest(session, tables)
    for table in tables:
        _count_dangling(session, table)
        _expose(session, table)


@dataclass
class _FlatTable:
    """One view's rows on their way into the store."""

    session: Session
    view: ViewDefinition
    pending: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        columns = ", ".join(f"c{k} {_type(c)}" for k, c in enumerate(self.view.columns))
        self.session.connection.execute(f"CREATE TABLE {self.name} (ordinal BIGINT, {columns})")
        kinds = {"ordinal": "BIGINT"} | {
            f"c{k}": _type(column) for k, column in enumerate(self.view.columns)
        }
        self._insert = f"INSERT INTO {self.name} {_from_json(kinds)}"

    @property
    def name(self) -> str:
        return f"{_STORE}.{quoted(self.view.name)}"

    def add(self, ordinal: int, row: Row) -> None:
        cells: dict[str, Any] = {"ordinal": ordinal}
        for k, (column, value) in enumerate(zip(self.view.columns, row, strict=True)):
            cells[f"c{k}"] = _cell(column, value)
        self.pending.append(cells)
        if len(self.pending) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        if self.pending:
            self.session.connection.execute(self._insert, [json.dumps(self.pending)])
            self.pending.clear()


def _type(column: ViewColumn) -> str:
    return sql_type(column.type) + ("[]" if column.collection else "")


def _from_json(kinds: dict[str, str]) -> str:
    """SELECT of rows out of one JSON text, the statement's parameter."""
    shape = json.dumps(
        [{key: [k[:-2]] if (k := kind).endswith("[]") else kind for key, kind in kinds.items()}]
    )
    columns = ", ".join(f"r.{key}" for key in kinds)
    return (
        f"SELECT {columns} FROM"
        f" (SELECT unnest(from_json_strict(CAST(? AS JSON), {literal(shape)})) AS r)"
    )


def _cell(column: ViewColumn, value: Any) -> Any:
    """As JSON for the column's SQL type. Raises FhirPathError where it does not fit."""
    if value is None:
        return None
    if column.collection:
        return [_scalar(column, item) for item in value]
    return _scalar(column, value)


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
    if kind == "DOUBLE" and type(value) in (int, Decimal):
        return float(value)
    if kind == "DOUBLE" and type(value) is Quantity:
        return float(value.value)
    raise FhirPathError(f"column {column.name} is of type {column.type}, a value of it is not")


def _number(value: Any) -> Any:
    if type(value) is Decimal:
        return float(value)
    return str(value) if type(value) is Temporal else text(value)


def _load(
    session: Session, folder: Path, tables: Sequence[_FlatTable], check_time: Callable[[], None]
) -> None:
    targets = {c.refers_to for table in tables for c in table.view.columns} - {None}
    viewed = {table.view.resource for table in tables}
    wanted = None if "*" in targets else viewed | {str(target) for target in targets}
    ordinal, keys = 0, list[dict[str, Any]]()
    insert = (
        f"INSERT INTO {_STORE}.keys SELECT md5_number(k), o, TRY_CAST(u AS TIMESTAMP)"
        f" FROM ({_from_json({'k': 'VARCHAR', 'o': 'BIGINT', 'u': 'VARCHAR'})})"
    )
    counts = dict.fromkeys(sorted(viewed), 0)
    for file in resources.files_of(folder):
        for place, resource in resources.read(file, wanted):
            kind = resource["resourceType"]
            if wanted is not None and kind not in wanted:
                continue
            ordinal += 1
            if kind in counts:
                counts[kind] += 1
            if key := resource_key(resource):
                meta = resource.get("meta")
                updated = meta.get("lastUpdated") if type(meta) is dict else None
                keys.append({"k": key, "o": ordinal, "u": updated})
            for table in tables:
                _add(table, ordinal, resource, place)
            if len(keys) >= _BATCH:
                session.connection.execute(insert, [json.dumps(keys)])
                keys.clear()
                check_time()
        session.allow(file)
    if keys:
        session.connection.execute(insert, [json.dumps(keys)])
    for table in tables:
        table.flush()
    for kind, count in counts.items():
        if not count:
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
    found = session.connection.execute(
        f"SELECT count(*) - count(DISTINCT key) FROM {_STORE}.keys"
    ).fetchone()
    repeated = int(found[0]) if found else 0
    if repeated:
        for table in tables:
            session.connection.execute(f"DELETE FROM {table.name} WHERE ordinal IN ({old})")
        session.note(f"{repeated} FHIR resources came more than once: the newest counts.")


def _count_dangling(session: Session, table: _FlatTable) -> None:
    for k, column in enumerate(table.view.columns):
        if column.refers_to is None:
            continue
        values = f"unnest(c{k})" if column.collection else f"c{k}"
        lost, total = session.connection.execute(
            f"SELECT count(*) FILTER (WHERE md5_number(r) NOT IN (SELECT key FROM {_STORE}.keys)),"
            f" count(*) FROM (SELECT {values} AS r FROM {table.name}) WHERE r IS NOT NULL"
        ).fetchall()[0]
        if lost:
            what = "resource" if column.refers_to == "*" else column.refers_to
            session.note(
                f"{lost} of {total} references in {table.view.name}.{column.name} lead to a {what}"
                " that the FHIR export does not hold."
            )


def _expose(session: Session, table: _FlatTable) -> None:
    selected = []
    for k, column in enumerate(table.view.columns):
        cast = _CASTS.get((column.tag or "").upper().split("(")[0].strip())
        if cast is None or column.collection:
            selected.append(f"c{k} AS {quoted(column.name)}")
            continue
        unfit = session.connection.execute(
            f"SELECT count(*) FROM {table.name} WHERE c{k} IS NOT NULL"
            f" AND TRY_CAST(c{k} AS {cast}) IS NULL"
        ).fetchone()
        if unfit != (0,):
            raise WardroundError(
                Code.MALFORMED_DATA,
                f"Column {column.name} of {table.view.source} holds what is no {cast}.",
                remedy="FHIR's dates may end at the month or year: leave the tag out and cast.",
            )
        selected.append(f"CAST(c{k} AS {cast}) AS {quoted(column.name)}")
    session.view(table.view.name, f"SELECT {', '.join(selected)} FROM {table.name}")
