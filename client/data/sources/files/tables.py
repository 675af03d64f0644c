"""A site's file -> a table that DuckDB reads in place; a broken file is named by line, unquoted.

What a table's columns are is settled once, by reading the whole file in a stream before the view
runs: a broken line stops here, not in the middle of a study.
"""

from __future__ import annotations

import csv
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import duckdb

from client.data.sources import clock, column_types
from client.data.sources.file_format import FileFormat
from client.data.sources.files import delimited, packed, workbook
from client.data.sources.files.delimited import Candidates, not_utf8, too_long
from client.data.sources.session import INSTANT, Session, literal, quoted, unreadable
from client.data.sources.settings import expand
from protocol.errors import Code, WardroundError

LONGEST_JSON = 16 << 20
"""Bytes of the longest JSON line or document: what DuckDB may have to hold at once."""
_CSV = (".csv", ".tsv", ".data", ".txt")
_LINES = (".ndjson", ".jsonl")
_JSON = (*_LINES, ".json")
READABLE = (*_CSV, *_JSON, ".parquet", workbook.SUFFIX)
_JSON_NUMBERS = ("BIGINT", "UBIGINT", "HUGEINT", "UHUGEINT", "DOUBLE")
_JSON_TEXTS = ("VARCHAR", "DATE", "TIMESTAMP", "TIME", "UUID")
"""What DuckDB makes of strings."""
AS_FOUND = FileFormat()
"""Nothing is stated of how a file is written."""
_BROKEN = (duckdb.Error, EOFError, zlib.error, OSError, csv.Error)


def register(
    session: Session,
    name: str,
    path: Path,
    columns: Sequence[str] | None = None,
    *,
    layout: FileFormat = AS_FOUND,
    fixed: Candidates = lambda column: None,
    bare_tabs: bool = False,
    optional: Mapping[str, str] = {},
    renamed: Mapping[str, str] = {},
) -> None:
    """A file, or all that a path with * stands for, -> a view of the given name over it in place.

    columns: names, for a delimited file without a header line. layout: how a delimited file is
    written. fixed: what types a standard allows a column. bare_tabs: a file delimited by tabs does
    not quote with ". optional, renamed: as `Session.view` has them.
    Errors: see `client.data.view_reader.read`.
    """
    session.check_name(name)
    paths = expand(path)
    if not paths:
        raise WardroundError(
            Code.NO_DATA, f"No file is named {path}.", remedy=f"Correct {name} in site.yaml."
        )
    for file in paths:
        _check_present(name, file)
    suffixes = {_suffix(file) for file in paths}
    if len(suffixes) > 1 or not suffixes <= set(READABLE):
        raise WardroundError(
            Code.CONFIGURATION,
            f"{path}: cannot tell the format from its extension.",
            remedy=f"Readable: {' '.join(READABLE)}; texts also packed as .gz, .zst or .zip.",
        )
    for file in paths:
        session.allow(file)
    suffix, parts = suffixes.pop(), []
    _check_layout(name, path, suffix, layout)
    for file in paths if suffix != ".parquet" else paths[:1]:
        try:
            if suffix in _CSV or suffix == workbook.SUFFIX:
                select = delimited.select
                parts.append(select(session, file, layout, columns, fixed, bare_tabs=bare_tabs))
            elif suffix in _JSON:
                parts.append(_json(session, file, layout))
            else:
                listed = ", ".join(literal(str(file)) for file in paths)
                parts.append(clock.on_the_clock(session, f"read_parquet([{listed}])"))
        except duckdb.OutOfMemoryException:
            raise
        except _BROKEN as error:
            raise malformed(error, file) from None
    try:
        _check_offsets(session, path, parts)
        session.view(name, " UNION ALL BY NAME ".join(parts), optional, renamed)
    except duckdb.Error as error:
        raise malformed(error, _named(error, paths) or path) from None


def _check_layout(name: str, path: Path, suffix: str, layout: FileFormat) -> None:
    """Whether what site.yaml states under formats is of any use. Raises
    WardroundError(CONFIGURATION)."""
    if suffix in _CSV:
        useless = {"sheet"}
    elif suffix == workbook.SUFFIX:
        useless = {"encoding", "delimiter"}
    else:
        useless = set(FileFormat.model_fields) - ({"types", "dates"} if suffix in _JSON else set())
    if any(getattr(layout, name) != getattr(AS_FOUND, name) for name in useless):
        raise WardroundError(
            Code.CONFIGURATION,
            f"formats.{name} states what a {suffix} file does not leave open ({path}).",
            remedy="Of JSON state types and dates, of Parquet nothing; a sheet only of .xlsx.",
        )


def _check_offsets(session: Session, path: Path, parts: Sequence[str]) -> None:
    """Whether a column of several files has an offset from UTC in some of them alone: without a
    time zone the others would be taken for UTC. Raises WardroundError(MALFORMED_DATA)."""
    if session.zoned or len(parts) < 2:
        return
    kinds: dict[str, set[str]] = {}
    for part in parts:
        for column, kind, *_ in session.connection.execute(f"DESCRIBE {part}").fetchall():
            kinds.setdefault(str(column).lower(), set()).add(str(kind))
    for column, found in kinds.items():
        if INSTANT in found and len(found) > 1:
            raise WardroundError(
                Code.MALFORMED_DATA,
                f"{path}: the column {column} has an offset from UTC in some files alone.",
                remedy="State time_zone in site.yaml.",
            )


def _suffix(path: Path) -> str:
    """Of the format, whatever packs it; of both where DuckDB cannot read the one in the other."""
    suffix, own = Path(packed.name_within(path)).suffix.lower(), path.suffix.lower()
    packings = packed.SUFFIXES if suffix in _CSV else packed.STREAMS if suffix in _JSON else ()
    return suffix if own in (suffix, *packings) else suffix + own


def _check_present(name: str, path: Path) -> None:
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        remedy = f"Correct the path of {name} in site.yaml, or the file's permissions."
        raise unreadable(path, error, remedy) from None
    if empty:
        raise WardroundError(Code.NO_DATA, f"{path} is empty.", remedy="Export it again.")


def malformed(error: Exception, path: Path) -> WardroundError:
    """The error for a file that is broken: its name and, where known, the line."""
    line = re.search(r"CSV Error on Line: (\d+)", str(error))
    if line and "not utf-8" in str(error):
        return not_utf8(path, int(line[1]))
    place = _place(error, path) if path.is_file() else ""
    remedy = "Correct or re-export the file; what stands there is not repeated here."
    if "invalid state" in str(error) and (other := delimited.other_ending(path)):
        number, first, ending = other
        place = f", line {number} ends in {ending}, and those before it in {first}"
        remedy = "Give all lines one ending (dos2unix does), or re-export the file."
    elif re.search(r"Expected Number of Columns: 1 Found", str(error)):
        remedy = (
            "If a title stands above the column names, state in site.yaml how many lines it has: "
        )
        remedy += "formats: {TABLE: {title_lines: 1}}. Else correct or re-export the file."
    return WardroundError(Code.MALFORMED_DATA, f"{path}{place}: not well formed.", remedy=remedy)


def blamed(error: duckdb.Error, paths: Sequence[Path]) -> WardroundError | None:
    """The error of a file that broke while the view ran, where DuckDB says which it was."""
    path = _named(error, paths)
    return malformed(error, path) if path else None


def _named(error: Exception, paths: Sequence[Path]) -> Path | None:
    named = [path for path in paths if str(path) in str(error)]
    return max(named, key=lambda path: len(str(path)), default=None)


def _json(session: Session, path: Path, layout: FileFormat) -> str:
    """Numbers and times by the rules for delimited files, from the texts that stand in the file:
    DuckDB's own reading makes one of two long identifiers."""
    shape = "newline_delimited" if _suffix(path) in _LINES else "auto"
    read = (
        f"read_json({literal(str(path))}, format = {literal(shape)},"
        f" maximum_object_size = {LONGEST_JSON}"
    )
    described = session.connection.execute(
        f"DESCRIBE SELECT * FROM {read}, sample_size = -1, dateformat = 'iso',"
        " timestampformat = 'iso')"
    ).fetchall()
    kinds = {str(name): str(kind) for name, kind, *_ in described}
    numbers = (column_types.INTEGER, column_types.JSON_NUMBER)
    either = delimited.times_of(layout, zoned=session.zoned)
    candidates = {
        name: numbers if kind in _JSON_NUMBERS else either
        for name, kind in kinds.items()
        if kind in _JSON_NUMBERS + _JSON_TEXTS
    }
    _check_nested(session, path, read, [name for name in kinds if name not in candidates])
    texts = dict.fromkeys(candidates, "VARCHAR")
    columns = ", ".join(f"{literal(n)}: {literal(k)}" for n, k in (kinds | texts).items())
    source = f"{read}, columns = {{{columns}}})"
    types = delimited.types_of(session, path, layout, source, candidates)
    values = (
        f"{types[name].of(name)} AS {quoted(name)}" if name in types else quoted(name)
        for name in kinds
    )
    return f"SELECT {', '.join(values)} FROM {source}"


def _check_nested(session: Session, path: Path, read: str, names: Sequence[str]) -> None:
    """Within lists and mappings numbers are read as DuckDB reads them, which loses digits."""
    columns = ", ".join(f"{literal(name)}: 'JSON'" for name in names)
    tests = ", ".join(
        f"bool_or(regexp_matches(CAST({quoted(name)} AS VARCHAR), '[:,\\[][ ]*-?[0-9]{{16,}}'))"
        for name in names
    )
    if not names:
        return
    [found] = session.connection.execute(
        f"SELECT {tests} FROM {read}, columns = {{{columns}}})"
    ).fetchall()
    for name, long in zip(names, found, strict=True):
        if long:
            raise WardroundError(
                Code.MALFORMED_DATA,
                f"{path}: within {name} stands a number of more than 15 digits.",
                remedy="Export identifiers as strings.",
            )


def bounded_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(number from 1, line) without ever holding more than `LONGEST_JSON` bytes of a line.

    Raises WardroundError(MALFORMED_DATA) for a longer line, OSError and zlib.error.
    """
    with packed.open_bytes(path) as file:
        lines = iter(lambda: file.readline(LONGEST_JSON + 1), b"")
        for number, line in enumerate(lines, start=1):
            if len(line) > LONGEST_JSON:
                raise too_long(path, number, LONGEST_JSON)
            yield number, line


def _place(error: Exception, path: Path) -> str:
    """Where a file is broken. Of DuckDB's message only the line number: it quotes the line."""
    if _suffix(path) in _LINES:
        number = 0
        try:
            for number, line in bounded_lines(path):  # noqa: B007 (it names the broken line)
                json.loads(line.strip() or b"null")
        except WardroundError as long:
            return long.message.removeprefix(str(path)).rstrip(".")
        except ValueError:
            return f", line {number}"
        except (OSError, EOFError, zlib.error):
            return ""
    if "maximum_object_size" in str(error):
        return f", longer than {LONGEST_JSON >> 20} MiB"
    number_in_error = re.search(r"CSV Error on Line: (\d+)", str(error))
    width = re.search(r"Expected Number of Columns: (\d+) Found: (\d+)", str(error))
    place = f", line {number_in_error[1]}" if number_in_error else ""
    return place + (f" ({width[2]} columns instead of {width[1]})" if width else "")
