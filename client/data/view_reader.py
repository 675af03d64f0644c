"""The one door to DuckDB: a site's sources and one SQL view -> columns.

The view is the hospital's own text, yet it runs as if it were not: one SELECT, in memory, over the
sources and nothing else; no extension, no network, no Python variable, nothing written, no spill to
disk. Sources are read in place, in a stream; what a view makes is all that is held.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt

from client.data.fhir import export
from client.data.sources import databases, files, omop, units, value_sets, view_sandbox
from client.data.sources.session import Extra, Session
from client.data.sources.settings import Sources
from protocol.errors import Code, WardroundError
from tasks.schema import Table

_AGAIN = 0.1
"""Seconds from one interruption of a late view to the next."""


def read(
    sources: Sources,
    view: str,
    *,
    extras: Iterable[Extra] = (),
    note: Callable[[str], None] | None = None,
    memory_limit: str = "2GB",
    threads: int = 1,
) -> Table:
    """The SELECT `view` over the tables of `sources` -> its columns.

    Files become the table of their name, by extension: .csv .tsv .txt .data (delimited), .ndjson
    .jsonl .json, each also with .gz, and .parquet; a path with * is all it stands for. A database
    is attached under its name (`name.table`); an OMOP CDM gives its tables their standard names; a
    FHIR export gives one table a ViewDefinition. Beside them stand the table
    `value_set(name, system, code, display)` and `in_unit(value, unit, wanted, analyte)`.

    `extras` are called with the open connection before anything else is registered, and may add
    tables and functions, which the view may then use (the imaging index adds `images` and
    `pseudonym(text)` in this way: `lambda connection: images_table.register(connection, index)`).
    `note` is told, for the site's own eyes, what is odd about the sources.

    Numbers and booleans come back as float64 with NaN for NULL; all else, and integers too large
    for float64, as str objects with None for NULL.

    Raises WardroundError: NO_DATA for a file or database that is not there or goes away;
    MALFORMED_DATA naming the file and, where it can be told, line and column; CREDENTIALS for a
    password that others can read; CONFIGURATION for a view that is not one SELECT, fails, or takes
    more than `sources.minutes` or `memory_limit`. No message holds a value.
    """
    with Session(memory_limit, threads) as session, _Deadline(session, sources.minutes) as deadline:
        try:
            parsed = view_sandbox.parse(session, view)
            for extra in extras:
                extra(session.connection)
            _register(session, sources, parsed, deadline)
            session.lock()
            view_sandbox.check(session, parsed)
            return _select(session, parsed)
        except duckdb.InterruptException:
            raise _too_slow(sources.minutes) from None
        except (MemoryError, duckdb.OutOfMemoryException):
            raise _too_large_for_memory() from None
        finally:
            if note:
                for text in session.notes:
                    note(text)


def _register(
    session: Session, sources: Sources, view: view_sandbox.View, deadline: _Deadline
) -> None:
    value_sets.register(session, sources.value_sets)
    units.register(session)
    for name, path in sources.files.items():
        files.register(session, name, path, sources.headerless.get(name))
    for name, database in sources.databases.items():
        databases.attach(session, name, database, deadline.left)
    try:
        if sources.omop:
            omop.register(session, sources.omop, view.named)
        if sources.fhir:
            export.register(session, sources.fhir, deadline.check)
    except (duckdb.InterruptException, duckdb.OutOfMemoryException):
        raise
    except duckdb.Error as error:
        raise (
            databases.blamed(error, session)
            or files.blamed(error, session.paths)
            or WardroundError(Code.MALFORMED_DATA, "The sources cannot be read as tables.")
        ) from None


class _Deadline:
    """Interrupts the session's connection once the time is over, again and again: an interruption
    that comes between two statements is lost."""

    def __init__(self, session: Session, minutes: float) -> None:
        self._minutes, self._connection = minutes, session.connection
        self._end = time.monotonic() + 60 * minutes
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._interrupt, name="deadline", daemon=True)

    @property
    def left(self) -> float:
        """Seconds."""
        return max(0.0, self._end - time.monotonic())

    def check(self) -> None:
        """Raises WardroundError(CONFIGURATION) once the time is over."""
        if not self.left:
            raise _too_slow(self._minutes)

    def __enter__(self) -> _Deadline:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _interrupt(self) -> None:
        while not self._done.wait(max(self.left, _AGAIN)):
            self._connection.interrupt()


def _too_slow(minutes: float) -> WardroundError:
    return WardroundError(
        Code.CONFIGURATION,
        f"Reading took longer than the {minutes:g} minutes that site.yaml allows.",
        remedy="Simplify the view, or raise data.<task>.minutes.",
    )


def _too_large_for_memory() -> WardroundError:
    return WardroundError(
        Code.CONFIGURATION,
        "The view needs more memory than allowed.",
        remedy="Select fewer rows and columns, or raise policy.memory in site.yaml.",
    )


def _select(session: Session, view: view_sandbox.View) -> Table:
    try:
        session.connection.execute("BEGIN TRANSACTION READ ONLY")
        result = session.connection.execute(view.statement)
        names = [(str(column[0]), str(column[1])) for column in result.description or ()]
        columns: dict[str, Any] = dict(result.fetchnumpy())
    except (duckdb.InterruptException, duckdb.OutOfMemoryException):
        raise
    except duckdb.Error as error:
        raise (
            databases.blamed(error, session)
            or files.blamed(error, session.paths)
            or WardroundError(
                Code.CONFIGURATION,
                f"The view fails ({type(error).__name__}).{_reason(error)}",
                remedy="Try it in the duckdb shell on the same files.",
            )
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
    if isinstance(error, duckdb.PermissionException | duckdb.TransactionException):
        return " A view reads the tables of its site.yaml and does nothing else."
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
