"""A site's file -> a table that DuckDB reads in place; a broken file is named by line, unquoted.

What a table's columns are is settled once, by reading the whole file in a stream before the view
runs: a broken line stops here, not in the middle of a study.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

import duckdb

from client.data.sources.session import Session, literal, quoted, unreadable
from client.data.sources.settings import expand
from protocol.errors import Code, WardroundError

NULLS = ("", "?", "NA", "NULL")
"""Texts that mean "missing" in a delimited file."""
LONGEST_JSON = 16 << 20
"""Bytes of the longest JSON line or document: what DuckDB may have to hold at once."""
LONGEST_LINE = 1 << 20
"""Bytes of the longest line of a delimited file."""
_DELIMITERS = (",", ";", "\t", "|")
_CSV = (".csv", ".tsv", ".data", ".txt")
_LINES = (".ndjson", ".jsonl")
_JSON = (*_LINES, ".json")
READABLE = (*_CSV, *_JSON, ".parquet")
_KINDS = ("BIGINT", "DOUBLE", "DATE", "TIMESTAMP")
_SAMPLE = 10_000
"""Rows that suggest the type of a text column before all rows decide it."""
_BROKEN = (duckdb.Error, UnicodeDecodeError, EOFError, zlib.error, OSError, csv.Error)


def register(
    session: Session,
    name: str,
    path: Path,
    columns: Sequence[str] | None = None,
    *,
    types: Callable[[str], str | None] | None = None,
    bare_tabs: bool = False,
) -> None:
    """A file, or all that a path with * stands for, -> a view of the given name over it in place.

    columns: names, for a delimited file without a header line. types: column in lower case -> SQL
    type, where a standard fixes it. bare_tabs: a file delimited by tabs does not quote with ".
    Errors: see `client.data.view_reader.read`.
    """
    session.check_name(name)
    paths = expand(path)
    if not paths:
        raise WardroundError(
            Code.NO_DATA, f"No file is named {path}.", remedy=f"Correct {name} in site.yaml."
        )
    suffixes = {_suffix(file) for file in paths}
    if len(suffixes) > 1 or not suffixes <= set(READABLE):
        raise WardroundError(
            Code.CONFIGURATION,
            f"{path}: cannot tell the format from its extension.",
            remedy=f"Readable: {' '.join(READABLE)}.",
        )
    for file in paths:
        _check_present(name, file)
        session.allow(file)
    suffix, parts = suffixes.pop(), []
    for file in paths if suffix != ".parquet" else paths[:1]:
        try:
            if suffix in _CSV:
                parts.append(_delimited(session, file, columns, types, bare_tabs))
            elif suffix in _JSON:
                parts.append(_json(session, file))
            else:
                listed = _list([str(file) for file in paths])
                parts.append(f"SELECT * FROM read_parquet({listed})")
        except (duckdb.InterruptException, duckdb.OutOfMemoryException):
            raise
        except _BROKEN as error:
            raise malformed(error, file) from None
    try:
        session.view(name, " UNION ALL BY NAME ".join(parts))
    except duckdb.Error as error:
        raise malformed(error, _named(error, paths) or path) from None


def _suffix(path: Path) -> str:
    return (path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix).lower()


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
    place = _place(error, path) if path.is_file() else ""
    return WardroundError(
        Code.MALFORMED_DATA,
        f"{path}{place}: not well formed.",
        remedy="Correct or re-export the file; what stands there is not repeated here.",
    )


def blamed(error: duckdb.Error, paths: Sequence[Path]) -> WardroundError | None:
    """The error of a file that broke while the view ran, where DuckDB says which it was."""
    path = _named(error, paths)
    return malformed(error, path) if path else None


def _named(error: Exception, paths: Sequence[Path]) -> Path | None:
    named = [path for path in paths if str(path) in str(error)]
    return max(named, key=lambda path: len(str(path)), default=None)


def open_bytes(path: Path) -> IO[bytes]:
    """The file's content, unpacked where it ends in .gz."""
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]  # a GzipFile reads like one


def _json(session: Session, path: Path) -> str:
    """Dates are read as ISO 8601 alone: 01/02/2020 is one day here and another there."""
    shape = "newline_delimited" if _suffix(path) in _LINES else "auto"
    options = (
        f"{literal(str(path))}, format = {literal(shape)}, maximum_object_size = {LONGEST_JSON},"
        " dateformat = 'iso', timestampformat = 'iso'"
    )
    described = session.connection.execute(
        f"DESCRIBE SELECT * FROM read_json({options}, sample_size = -1)"
    ).fetchall()
    columns = ", ".join(f"{literal(name)}: {literal(kind)}" for name, kind, *_ in described)
    return f"SELECT * FROM read_json({options}, columns = {{{columns}}})"


def _delimited(
    session: Session,
    path: Path,
    columns: Sequence[str] | None,
    types: Callable[[str], str | None] | None,
    bare_tabs: bool,
) -> str:
    """A delimited file: each column the narrowest type that all its values have. The first line
    alone decides delimiter and width: DuckDB's own guess would silently read a table with one
    broken line as another dialect, and drop a line beyond its buffer."""
    _check_lines(path)
    with open_bytes(path) as file:
        first = file.readline().decode("utf-8-sig")
    delimiter = max(_DELIMITERS, key=first.count)
    quote = not (bare_tabs and delimiter == "\t")
    read = csv.reader([first], delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quote else 3)
    names = [name.strip() for name in columns or next(read)]
    if len({name.lower() for name in names}) < len(names):
        raise WardroundError(
            Code.MALFORMED_DATA,
            f"{path}, line 1: names a column twice.",
            remedy="Rename one of them; a file without a header line belongs under `headerless`.",
        )
    struct = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in names)
    mark = literal('"') if quote else "''"
    source = (
        f"read_csv({literal(str(path))}, auto_detect = false, delim = {literal(delimiter)},"
        f" quote = {mark}, escape = {mark}, header = {literal(not columns)},"
        f" nullstr = {_list(NULLS)}, max_line_size = {2 * LONGEST_LINE}, columns = {{{struct}}})"
    )
    fixed = {name: kind for name in names if types and (kind := types(name.lower()))}
    kinds = _typed(session, source, names, fixed)
    if misfits := [name for name in fixed if kinds[name] != fixed[name]]:
        raise WardroundError(
            Code.MALFORMED_DATA,
            f"{path}: the column {misfits[0]} holds what is no {fixed[misfits[0]]}.",
            remedy="Correct or re-export the file.",
        )
    casts = ", ".join(
        f"CAST({quoted(n)} AS {k}) AS {quoted(n)}" if k != "VARCHAR" else quoted(n)
        for n, k in kinds.items()
    )
    return f"SELECT {casts} FROM {source}"


def _typed(
    session: Session, source: str, names: Sequence[str], fixed: dict[str, str]
) -> dict[str, str]:
    """Column -> the first kind that fits all rows. A sample proposes, so that usually the whole
    file is read once; every row has the last word."""
    kinds = {name: [fixed[name]] if name in fixed else list(_KINDS) for name in names}
    limit = f" LIMIT {_SAMPLE}"
    while True:
        tried = {name: left[0] for name, left in kinds.items() if left}
        tests = [
            f"count(*) FILTER (WHERE {_misfit(n, k, strict=n not in fixed)})"
            for n, k in tried.items()
        ]
        texts = [f"max(length({quoted(n)}))" for n, left in kinds.items() if not left]
        counts = session.connection.execute(
            f"SELECT {', '.join([*tests, *texts])} FROM (SELECT * FROM {source}{limit})"
        ).fetchone()
        wrong = [name for name, misfits in zip(tried, counts or (), strict=False) if misfits]
        for name in wrong:
            kinds[name].pop(0)
        if not wrong and not limit:
            return {name: left[0] if left else "VARCHAR" for name, left in kinds.items()}
        if not wrong:
            limit = ""


def _misfit(name: str, kind: str, *, strict: bool) -> str:
    """When a text is not of a kind. Where nothing fixes the kind, an identifier keeps its leading
    zeros, and a number its fraction (a cast of '.7' to BIGINT rounds)."""
    column, more = quoted(name), ""
    if strict and kind == "BIGINT":
        more = f" OR NOT regexp_full_match({column}, '[+-]?(0|[1-9][0-9]*)')"
    elif strict:
        more = f" OR regexp_full_match({column}, '0[0-9]+')"
    return f"{column} IS NOT NULL AND (TRY_CAST({column} AS {kind}) IS NULL{more})"


def _list(texts: Sequence[str]) -> str:
    return "[" + ", ".join(literal(text) for text in texts) + "]"


def _check_lines(path: Path) -> None:
    """Raises WardroundError(MALFORMED_DATA) for a line beyond `LONGEST_LINE`, which no block of
    that size without an end of line can miss by more than a factor of two."""
    lines = 1
    with open_bytes(path) as file:
        while block := file.read(LONGEST_LINE):
            ends = block.count(b"\n")
            if not ends and len(block) == LONGEST_LINE and b"\r" not in block:
                raise _too_long(path, lines, LONGEST_LINE)
            lines += ends


def _too_long(path: Path, line: int, max_bytes: int) -> WardroundError:
    return WardroundError(
        Code.MALFORMED_DATA,
        f"{path}, line {line}: longer than {max_bytes >> 20} MiB.",
        remedy="Correct or re-export the file: a quotation mark or an end of line may be missing.",
    )


def bounded_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(number from 1, line) without ever holding more than `LONGEST_JSON` bytes of a line.

    Raises WardroundError(MALFORMED_DATA) for a longer line, OSError and zlib.error.
    """
    with open_bytes(path) as file:
        lines = iter(lambda: file.readline(LONGEST_JSON + 1), b"")
        for number, line in enumerate(lines, start=1):
            if len(line) > LONGEST_JSON:
                raise _too_long(path, number, LONGEST_JSON)
            yield number, line


def _place(error: Exception, path: Path) -> str:
    """Where a file is broken. Of DuckDB's message only the line number: it quotes the line."""
    if isinstance(error, UnicodeDecodeError):
        return ", line 1, is not UTF-8"
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
    if "not utf-8" in str(error):
        place += ", is not UTF-8"
    return place + (f" ({width[2]} columns instead of {width[1]})" if width else "")
