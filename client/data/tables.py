"""The one door to DuckDB: a site's files and one SQL view -> columns.

The view is the hospital's own text, yet it runs as if it were not: one SELECT, in memory, no file
but those named, no extension, no network, no Python variable, nothing written, no spill to disk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt

from client.data.files import literal, register
from protocol.errors import Code, WardroundError
from tasks.schema import Table


def read(
    files: Mapping[str, Path],
    view: str,
    *,
    headerless: Mapping[str, Sequence[str]] | None = None,
    memory_limit: str = "2GB",
    threads: int = 1,
) -> Table:
    """Each of `files` becomes the table of its name; the SELECT `view` over them -> its columns.

    By extension: .csv .tsv .txt .data (delimited, also with .gz), .parquet, .ndjson .jsonl .json.
    `headerless`: column names of a delimited file that has no header line, by table.
    Numbers and booleans come back as float64 with NaN for NULL; all else, and integers too large
    for float64, as str objects with None for NULL.

    Raises WardroundError: NO_DATA for a file that is not there or not readable; MALFORMED_DATA
    naming the file and, where DuckDB knows them, line and column; CONFIGURATION for a view that
    is not one SELECT or fails. No message holds a value.
    """
    with duckdb.connect(":memory:") as connection:
        _confine(connection, memory_limit, threads)
        for name, path in files.items():
            register(connection, name, path, (headerless or {}).get(name))
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        return _select(connection, view)


def _confine(connection: duckdb.DuckDBPyConnection, memory_limit: str, threads: int) -> None:
    """Settings that hold for files and view. Without a temporary folder nothing spills to disk:
    a copy of patients' rows must not outlive the process."""
    settings: dict[str, str | int | bool] = {
        "memory_limit": memory_limit,
        "threads": threads,
        "temp_directory": "",
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "allow_community_extensions": False,
        "python_enable_replacements": False,
        "preserve_insertion_order": True,
    }
    for setting, value in settings.items():
        connection.execute(f"SET {setting} = {literal(value)}")


def _select(connection: duckdb.DuckDBPyConnection, view: str) -> Table:
    try:
        statements = connection.extract_statements(view)
    except duckdb.Error:
        raise WardroundError(
            Code.CONFIGURATION,
            "The view is not valid SQL.",
            remedy="Try it in the duckdb shell on the same files.",
        ) from None
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise WardroundError(
            Code.CONFIGURATION, "The view must be one SELECT.", remedy="Remove what is beside it."
        )
    try:
        connection.execute("BEGIN TRANSACTION READ ONLY")
        result = connection.execute(statements[0])
        names = [(str(column[0]), str(column[1])) for column in result.description or ()]
        columns: dict[str, Any] = dict(result.fetchnumpy())
    except duckdb.Error as error:
        raise WardroundError(
            Code.CONFIGURATION,
            f"The view fails ({type(error).__name__}).{_reason(error)}",
            remedy="Try it in the duckdb shell on the same files.",
        ) from None
    if len({name for name, _ in names}) < len(names):
        raise WardroundError(Code.CONFIGURATION, "The view names a column twice.")
    for name, kind in names:
        if kind in ("HUGEINT", "UHUGEINT"):
            raise WardroundError(
                Code.CONFIGURATION,
                f"The view's column {name} is of type {kind}, which would lose digits.",
                remedy="Cast it to VARCHAR (an identifier) or DOUBLE (a measurement).",
            )
    return {name: _column(values) for name, values in columns.items()}


def _reason(error: duckdb.Error) -> str:
    """What may be told: a catalogue or binder error speaks of names in the view, not of rows."""
    if isinstance(error, duckdb.BinderException | duckdb.CatalogException):
        return " " + str(error).splitlines()[0].rstrip(".") + "."
    if isinstance(error, duckdb.OutOfMemoryException):
        return " It needs more memory than allowed: raise memory_limit in site.yaml."
    if isinstance(error, duckdb.PermissionException | duckdb.TransactionException):
        return " A view reads the files of its site.yaml and does nothing else."
    return ""


def _column(values: Any) -> npt.NDArray[Any]:
    """A (masked) column -> float64 with NaN, or object with None."""
    mask = np.ma.getmaskarray(values)
    data = np.ma.getdata(values)
    if data.dtype.kind in "biuf" and not _too_large(data[~mask]):
        return np.where(mask, np.nan, data.astype(np.float64))
    texts = np.full(len(data), None, dtype=object)
    for row in np.flatnonzero(~mask):
        value = data[row]
        if value is not None and not _absent(value):
            texts[row] = str(value)
    return texts


def _too_large(integers: npt.NDArray[Any]) -> bool:
    """Whether float64 would merge neighbours (patients' identifiers, above all)."""
    if integers.dtype.kind not in "iu" or not integers.size:
        return False
    return max(int(integers.max()), -int(integers.min())) > 2**53


def _absent(value: Any) -> bool:
    return bool(isinstance(value, float | np.floating | np.datetime64) and value != value)
