"""Runs one SQL view over a site's sources in DuckDB -> columns.

The view is the hospital's own text, yet it is not trusted: one SELECT, in memory, over the sources
and nothing else; no extension, no network, no Python variable, nothing written, no spill to disk.
Sources are read in place, in a stream; only the view's result is held.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import duckdb
import numpy as np
import numpy.typing as npt

from client.data import omop
from client.data.fhir import export
from client.data.limited_process import ProcessEndedError, limited
from client.data.sources import clock, units, value_sets, view_sandbox
from client.data.sources.databases import attaching
from client.data.sources.files import tables
from client.data.sources.session import Extra, Session
from client.data.sources.settings import Sources
from protocol.errors import Code, WardroundError
from tasks.schema import PATIENT, Table

T = TypeVar("T")
_ROOM = 384 << 20
"""Bytes of address space for the engine's code and buffers beyond its own limit and the result."""
_THREAD = 16 << 20
"""Bytes of address space that a thread takes."""


@dataclass(frozen=True)
class Inspection(Generic[T]):
    """A look at a session before its view runs.

    of: sees the locked session, and the view once that is found harmless; a function of a module,
    for it is called in another process. told: receives what it returns.
    """

    of: Callable[[Session, view_sandbox.ParsedView], T]
    told: Callable[[T], None]


@dataclass(frozen=True)
class Reading:
    """What the other process gives back: columns, or the error in their place."""

    notes: tuple[str, ...]
    table: Table | WardroundError
    seen: Any = None


def read(
    sources: Sources,
    view: str,
    *,
    extras: Iterable[Extra] = (),
    note: Callable[[str], None] = lambda text: None,
    memory: int = 2 << 30,
    threads: int = 1,
    time_zone: str | None = None,
    inspection: Inspection[Any] | None = None,
) -> Table:
    """The SELECT `view` over the tables of `sources` -> its columns.

    Files become the table of their name, by extension: .csv .tsv .txt .data (delimited, also in a
    .zip), .ndjson .jsonl .json, each also with .gz or .zst, .parquet, and .xlsx (one sheet); a path
    with * is all it stands for. A database
    is attached under its name (`name.table`); an OMOP CDM gives its tables their standard names; a
    FHIR export gives one table a ViewDefinition. Beside them stand the table
    `value_set(name, system, code, display, key)` with `code_keys(system, code)` to find a code,
    the functions `in_unit`, `unit_or` and `plausible` of `units`, and the
    functions of `client.data.sources.clock`: `instant(value)`, `calendar_day(value)`,
    `earliest_day(value)`, `latest_day(value)`.

    All of it is done by another process, which ends with the reading (`limited_process`).
    `extras` are called there with the open connection before anything else is registered, and may
    add tables and functions for the view (the imaging index adds `images` and `pseudonym(text)`);
    they are functions of modules. `note` receives remarks on the sources, for the site alone.
    memory: bytes that the engine may hold, and the result again as many. `time_zone`: the site's,
    an IANA name: the clock of times without an offset, and the calendar of days.

    Numbers and booleans come back as float64 with NaN for NULL; all else, and integers too large
    for float64, as str objects with None for NULL.

    Raises WardroundError: NO_DATA for a file or database that is not there or goes away;
    MALFORMED_DATA naming the file and, where it can be told, line and column; CREDENTIALS for a
    password that others can read; CONFIGURATION for a view that is not one SELECT, fails, or takes
    more than `sources.minutes` or memory. No message holds a value.
    """
    plain = Sources.model_construct(**{name: getattr(sources, name) for name in _FIELDS})
    of = inspection.of if inspection else None
    room = 2 * memory + _ROOM + threads * _THREAD
    adding = tuple(extras)
    try:
        reading = limited(
            read_here,
            room,
            60 * sources.minutes,
            plain,
            view,
            adding,
            memory,
            threads,
            time_zone,
            of,
        )
    except ProcessEndedError as ended:
        raise (_too_slow(sources.minutes) if ended.late else _ended()) from None
    for text in reading.notes:
        note(text)
    if isinstance(reading.table, WardroundError):
        raise reading.table
    if inspection:
        inspection.told(reading.seen)
    return reading.table


_FIELDS = tuple(Sources.model_fields)


def read_here(
    sources: Sources,
    view: str,
    extras: tuple[Extra, ...],
    memory: int,
    threads: int,
    time_zone: str | None,
    inspect: Callable[[Session, view_sandbox.ParsedView], Any] | None,
) -> Reading:
    """As `read`, in this process, which is not bounded: for the one that is made for it."""
    seen: Any = None
    with Session(memory, threads, time_zone) as session:
        table: Table | WardroundError
        try:
            parsed = view_sandbox.parse(session, view)
            for extra in extras:
                extra(session.connection)  # a caller's function, not Django's  # nosec B610
            _register(session, sources, parsed)
            session.lock()
            view_sandbox.check(session, parsed)
            if inspect:
                with _errors(session, _failing_view):
                    seen = inspect(session, parsed)
            table = _select(session, parsed)
            session.check_unchanged()
        except WardroundError as error:
            table = error
        except (MemoryError, duckdb.OutOfMemoryException):
            table = _too_large()
        return Reading(tuple(session.notes), table, seen)


def _register(session: Session, sources: Sources, view: view_sandbox.ParsedView) -> None:
    value_sets.register(session, sources.value_sets, sources.ancestors)
    units.register(session)
    clock.register(session)
    for name, path in sources.files.items():
        layout = sources.formats.get(name, tables.AS_FOUND)
        tables.register(session, name, path, sources.headerless.get(name), layout=layout)
    for name, database in sources.databases.items():
        attaching.attach(session, name, database, 60 * sources.minutes)
    with _errors(session, _unreadable_sources):
        if sources.omop:
            omop.register(session, sources.omop, view.named)
        if sources.fhir:
            export.register(session, sources.fhir)


@contextmanager
def _errors(
    session: Session, otherwise: Callable[[duckdb.Error], WardroundError]
) -> Iterator[None]:
    """Turns an error of DuckDB into one that names the source to blame, if any."""
    try:
        yield
    except duckdb.OutOfMemoryException:
        raise
    except duckdb.Error as error:
        raise (
            attaching.blamed(error, session)
            or tables.blamed(error, session.paths)
            or otherwise(error)
        ) from None


def _unreadable_sources(error: duckdb.Error) -> WardroundError:
    return WardroundError(
        Code.MALFORMED_DATA,
        "The sources cannot be read as tables.",
        remedy="Try to read them in the duckdb shell.",
    )


def _failing_view(error: duckdb.Error) -> WardroundError:
    """Quotes a catalogue or binder error, which speaks of names in the view, not of rows."""
    reason = ""
    if isinstance(error, duckdb.ConversionException) and "(infinity)" in str(error):
        return _infinite("result holds")
    if isinstance(error, duckdb.BinderException | duckdb.CatalogException):
        reason = " " + str(error).splitlines()[0].rstrip(".") + "."
    elif isinstance(error, duckdb.PermissionException | duckdb.TransactionException):
        reason = f" {view_sandbox.RULE}"
    return WardroundError(
        Code.CONFIGURATION,
        f"The view fails ({type(error).__name__}).{reason}",
        remedy="Try it in the duckdb shell on the same files.",
    )


def _ended() -> WardroundError:
    return WardroundError(
        Code.CONFIGURATION,
        "The view was ended: it needs more memory than allowed, or breaks the database engine.",
        remedy="Select fewer rows and columns, or raise policy.memory in site.yaml.",
    )


def _too_large() -> WardroundError:
    return WardroundError(
        Code.CONFIGURATION,
        "The view needs more memory than allowed.",
        remedy="Select fewer rows and columns, or raise policy.memory in site.yaml.",
    )


def _too_slow(minutes: float) -> WardroundError:
    return WardroundError(
        Code.CONFIGURATION,
        f"Reading took longer than the {minutes:g} minutes that site.yaml allows.",
        remedy="Simplify the view, or raise data.<task>.minutes.",
    )


def _select(session: Session, view: view_sandbox.ParsedView) -> Table:
    with _errors(session, _failing_view):
        session.connection.execute("BEGIN TRANSACTION READ ONLY")
        result = session.connection.execute(view.statement)
        names = [(str(column[0]), str(column[1])) for column in result.description or ()]
        columns: dict[str, Any] = dict(result.fetchnumpy())
    if len({name for name, _ in names}) < len(names):
        raise WardroundError(
            Code.CONFIGURATION, "The view names a column twice.", remedy="Rename one with AS."
        )
    if huge := [column for column in names if column[1] in ("HUGEINT", "UHUGEINT")]:
        raise WardroundError(
            Code.CONFIGURATION,
            f"The view's column {huge[0][0]} is of type {huge[0][1]}, which would lose digits.",
            remedy="Cast it to VARCHAR (an identifier) or DOUBLE (a measurement).",
        )
    table = {name: _column(name, values) for name, values in columns.items()}
    _check_names(table)
    return table


_ROUNDED = re.compile(r"-?[0-9](\.[0-9]+)?e\+[0-9]{2,3}")
"""How DuckDB writes a float64 of 17 digits and more."""


def _check_names(table: Table) -> None:
    """Whether patients' names may have gone through a float64, which makes one of two patients.

    Raises WardroundError(CONFIGURATION)."""
    names = table.get(PATIENT, np.array([]))
    if names.dtype == np.float64:
        rounded = bool(np.any(np.abs(names[np.isfinite(names)]) > 2**53))
    else:
        rounded = any(name is not None and _ROUNDED.fullmatch(name) for name in names)
    if rounded:
        raise WardroundError(
            Code.CONFIGURATION,
            "Identifiers of patients come as floating-point numbers, which lose digits: two"
            " patients can have become one.",
            remedy="Export or declare them as text.",
        )


def _column(name: str, values: Any) -> npt.NDArray[Any]:
    """A (masked) column -> float64 with NaN, or object with None."""
    mask = np.ma.getmaskarray(values)
    data = np.ma.getdata(values)
    times = data[~mask].astype("M8[us]").astype(int) if data.dtype.kind == "M" else ()
    if np.isin(times, _INFINITE).any():
        raise _infinite(f"column {name} holds")
    if data.dtype.kind in "biuf" and not _beyond_float64(data[~mask]):
        return np.where(mask, np.nan, data.astype(np.float64))
    texts = np.full(len(data), None, dtype=object)
    for row in np.flatnonzero(~mask):
        value = data[row]
        if isinstance(value, bytes | bytearray):
            texts[row] = _decoded(bytes(value), name)
        elif value is not None and not _absent(value):
            texts[row] = str(value)
    return texts


_INFINITE = (2**63 - 1, 1 - 2**63)
"""Microseconds by which DuckDB writes the infinite times of PostgreSQL."""


def _infinite(what: str) -> WardroundError:
    return WardroundError(
        Code.MALFORMED_DATA,
        f"The view's {what} an infinite date or time.",
        remedy="Say what it stands for: CASE WHEN isfinite(x) THEN x END makes it missing.",
    )


def _decoded(value: bytes, column: str) -> str:
    """SQLite gives what an expression makes as bytes, whatever it is."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise WardroundError(
            Code.MALFORMED_DATA,
            f"The view's column {column} holds bytes that are no text in UTF-8.",
            remedy="Leave it out, or decode it in the view.",
        ) from None


def _beyond_float64(integers: npt.NDArray[Any]) -> bool:
    """Whether float64 would merge neighbours (patients' identifiers, above all)."""
    if integers.dtype.kind not in "iu" or not integers.size:
        return False
    return max(int(integers.max()), -int(integers.min())) > 2**53


def _absent(value: Any) -> bool:
    return bool(isinstance(value, float | np.floating | np.datetime64) and value != value)
