"""A site's file -> a table in DuckDB's memory; a broken file is named by line, never quoted."""

from __future__ import annotations

import csv
import gzip
import json
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

import duckdb

from protocol.errors import Code, WardroundError

NULLS = ("", "?", "NA", "NULL")
"""Texts that mean "missing" in a CSV file."""
_DELIMITERS = (",", ";", "\t", "|")
_CSV = (".csv", ".tsv", ".data", ".txt")
_JSON = (".ndjson", ".jsonl", ".json")
_READABLE = (*_CSV, *_JSON, ".parquet")


def literal(value: str | int | bool) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return str(value).lower()


def register(
    connection: duckdb.DuckDBPyConnection, name: str, path: Path, columns: Sequence[str] | None
) -> None:
    """One file -> one table in memory, of the given name. Errors: see `client.data.tables.read`."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise WardroundError(
            Code.CONFIGURATION,
            f"{name!r} cannot name a table.",
            remedy="Use letters, digits and _ for the names under `files`.",
        )
    suffix = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if suffix.lower() not in _READABLE:
        raise WardroundError(
            Code.CONFIGURATION,
            f"{path}: cannot tell the format from its extension.",
            remedy=f"Readable: {' '.join(_READABLE)}.",
        )
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise WardroundError(
            Code.NO_DATA,
            f"{path} cannot be read: {error.strerror}.",
            remedy=f"Correct the path of {name} in site.yaml, or the file's permissions.",
        ) from None
    if empty:
        raise WardroundError(Code.NO_DATA, f"{path} is empty.")
    try:
        if suffix.lower() in _CSV:
            _delimited(connection, name, path, columns)
        else:
            reader = "read_json_auto" if suffix.lower() in _JSON else "read_parquet"
            options = ", sample_size = -1" if suffix.lower() in _JSON else ""
            source = f"{reader}({literal(str(path))}{options})"
            connection.execute(f'CREATE TABLE "{name}" AS SELECT * FROM {source}')  # noqa: S608
    except (duckdb.Error, UnicodeDecodeError, EOFError, zlib.error, OSError) as error:
        raise WardroundError(
            Code.MALFORMED_DATA,
            f"{path}{_place(error, path)}: not well formed.",
            remedy="Correct or re-export the file; what stands there is not repeated here.",
        ) from None


def _delimited(
    connection: duckdb.DuckDBPyConnection, name: str, path: Path, columns: Sequence[str] | None
) -> None:
    """A delimited file, first as text, then each column as the narrowest type that all its values
    have. The first line alone decides delimiter and width: DuckDB's own guess reads a table with
    one broken line as another dialect, without a word."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        first = file.readline().decode("utf-8-sig")
    delimiter = max(_DELIMITERS, key=first.count)
    names = columns or next(csv.reader([first], delimiter=delimiter))
    struct = ", ".join(f"{literal(column.strip())}: 'VARCHAR'" for column in names)
    source = (
        f"read_csv({literal(str(path))}, auto_detect = false, delim = {literal(delimiter)},"
        f" quote = '\"', escape = '\"', header = {literal(not columns)},"
        f" nullstr = {_list(NULLS)}, columns = {{{struct}}})"
    )
    connection.execute(f"CREATE TEMP TABLE raw AS SELECT * FROM {source}")  # noqa: S608
    described = connection.execute("SELECT column_name FROM (DESCRIBE raw)").fetchall()
    typed = ", ".join(
        _typed(connection, '"' + str(c).replace('"', '""') + '"') for (c,) in described
    )
    connection.execute(f'CREATE TABLE "{name}" AS SELECT {typed} FROM raw')  # noqa: S608
    connection.execute("DROP TABLE raw")


def _typed(connection: duckdb.DuckDBPyConnection, column: str) -> str:
    """The cast of a text column. An identifier keeps its leading zeros, and a number its
    fraction (a cast of '.7' to BIGINT rounds)."""
    for kind in ("BIGINT", "DOUBLE", "DATE", "TIMESTAMP"):
        misfits = f"TRY_CAST({column} AS {kind}) IS NULL OR {column} SIMILAR TO '0[0-9]+'"
        if kind == "BIGINT":
            misfits += f" OR NOT {column} SIMILAR TO '[+-]?[0-9]+'"
        found = connection.execute(
            f"SELECT count(*) FROM raw WHERE {column} IS NOT NULL AND ({misfits})"  # noqa: S608
        ).fetchone()
        if found == (0,):
            return f"CAST({column} AS {kind}) AS {column}"
    return column


def _list(texts: Sequence[str]) -> str:
    return "[" + ", ".join(literal(text) for text in texts) + "]"


def _place(error: Exception, path: Path) -> str:
    """Where a file is broken. Of DuckDB's message only the line number: it quotes the line."""
    if isinstance(error, UnicodeDecodeError):
        return ", line 1, is not UTF-8"
    if path.suffix in (".ndjson", ".jsonl"):
        for number, line in enumerate(path.read_bytes().splitlines(), start=1):
            try:
                json.loads(line or b"null")
            except ValueError:
                return f", line {number}"
    found = re.search(r"CSV Error on Line: (\d+)", str(error))
    width = re.search(r"Expected Number of Columns: (\d+) Found: (\d+)", str(error))
    place = f", line {found.group(1)}" if found else ""
    return place + (f" ({width.group(2)} columns instead of {width.group(1)})" if width else "")
