"""A delimited file -> the SELECT that reads it: its first line names the columns and their number.

DuckDB's own guess would silently read a table with one broken line as another dialect, and drop a
line beyond its buffer.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, assert_never

from client.data.sources import column_types
from client.data.sources.column_types import ColumnType
from client.data.sources.file_format import FileFormat, Stated
from client.data.sources.files import workbook
from client.data.sources.files.packed import open_bytes
from client.data.sources.session import Session, literal, quoted
from protocol.errors import Code, WardroundError

MISSING = ("", "?", ".", "NA", "N/A", "#N/A", "NULL", "null", "NaN", "nan", "NaT", "\\N")
"""Texts that mean "missing" in a delimited file."""
LONGEST_LINE = 1 << 20
"""Bytes of the longest line of a delimited file."""
_LARGEST_COPY = 1 << 30
"""Bytes of a file that is not UTF-8: a compressed copy is held in memory."""
_DELIMITERS = (",", ";", "\t", "|")
_SEPARATOR = re.compile(r'"?sep=(.)"?[,;\t|]*\s*', re.IGNORECASE)
"""The line above the names that tells Excel the sign between fields."""

Candidates = Callable[[str], Sequence[ColumnType] | None]
"""Column, in lower case -> the types that it may have, None where a file may decide."""


def select(
    session: Session,
    path: Path,
    layout: FileFormat,
    columns: Sequence[str] | None,
    fixed: Candidates,
    *,
    bare_tabs: bool,
) -> str:
    """The SELECT over the file, each column of the narrowest type that all its values have.

    columns: names, for a file without a line of them. fixed: what a standard says of a column.
    bare_tabs: a file delimited by tabs does not quote with ".

    Raises WardroundError(MALFORMED_DATA or CONFIGURATION), duckdb.Error, OSError, EOFError,
    zlib.error and csv.Error.
    """
    if workbook.is_one(path):
        content, readable, layout = _of_workbook(session, path, layout)
    else:
        _check_lines(path)
        content, readable = _in_utf8(session, path, layout)
    header, layout = _header(content, path, layout)
    delimiter = layout.delimiter or _delimiter(header)
    quotes = not (bare_tabs and delimiter == "\t")
    read = csv.reader(
        io.StringIO(header, newline=""),
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE,
    )
    written = [name.strip() for name in columns or next(read, [])]
    names = [name or f"column without a name {place}" for place, name in enumerate(written, 1)]
    if len({name.lower() for name in names}) < len(names):
        raise WardroundError(
            Code.MALFORMED_DATA,
            f"{path}, line {layout.title_lines + 1}: names a column twice.",
            remedy="Rename one of them; a file without a header line belongs under `headerless`.",
        )
    source = _source(readable, layout, names, delimiter, quotes, header=not columns)
    named = [name for name, text in zip(names, written, strict=True) if text]
    if len(named) < len(names):
        session.note(f"{path}: a column without a name is left out.")
    either = (*_numbers(layout), *times_of(layout, zoned=session.zoned))
    types = types_of(session, path, layout, source, dict.fromkeys(named, either), fixed)
    values = (f"{types[name].of(name)} AS {quoted(name)}" for name in named)
    return f"SELECT {', '.join(values)} FROM {source}"


def _check_lines(path: Path) -> None:
    """Raises WardroundError(MALFORMED_DATA) for a line beyond `LONGEST_LINE`, which no block of
    that size without an end of line can miss by more than a factor of two."""
    lines = 1
    with open_bytes(path) as file:
        while block := file.read(LONGEST_LINE):
            ends = block.count(b"\n")
            if not ends and len(block) == LONGEST_LINE and b"\r" not in block:
                raise too_long(path, lines, LONGEST_LINE)
            lines += ends


def too_long(path: Path, line: int, max_bytes: int) -> WardroundError:
    """The error for a line, from 1, that does not end."""
    return WardroundError(
        Code.MALFORMED_DATA,
        f"{path}, line {line}: longer than {max_bytes >> 20} MiB.",
        remedy="Correct or re-export the file: a quotation mark or an end of line may be missing.",
    )


def _header(file: IO[bytes], path: Path, layout: FileFormat) -> tuple[str, FileFormat]:
    """The text that names the columns: one line, or more where a quotation mark stays open. And the
    layout, with what a line for Excel above it says."""
    with io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline=None) as lines:
        for _ in range(layout.title_lines):
            lines.readline(LONGEST_LINE)
        header = lines.readline(LONGEST_LINE)
        if told := _SEPARATOR.fullmatch(header):
            title_lines, delimiter = layout.title_lines + 1, layout.delimiter or told[1]
            stated = {"title_lines": title_lines, "delimiter": delimiter}
            layout, header = layout.model_copy(update=stated), lines.readline(LONGEST_LINE)
        while header.count('"') % 2 and len(header) < LONGEST_LINE:
            if not (more := lines.readline(LONGEST_LINE)):
                break
            header += more
    if any("\udc80" <= sign <= "\udcff" for sign in header):
        raise not_utf8(path, layout.title_lines + 1)
    return header, layout


def other_ending(path: Path) -> tuple[int, str, str] | None:
    """The first line, from 1, that does not end as those before it do, with both endings by name:
    a file is read by one of them. None where all end alike, within quotation marks or not."""
    first = ""
    with open_bytes(path) as file:
        for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE), b""), start=1):
            inner, ending = line.removesuffix(b"\n"), "LF" if line.endswith(b"\n") else ""
            if ending and inner.endswith(b"\r"):
                inner, ending = inner[:-1], "CR LF"
            ending = "CR" if b"\r" in inner else ending
            if ending and ending != (first := first or ending):
                return number, first, ending
    return None


def not_utf8(path: Path, line: int) -> WardroundError:
    """The error for a file of another encoding, with a proposal."""
    with open_bytes(path) as file:
        start = file.read(LONGEST_LINE)
    wide = start.startswith((b"\xff\xfe", b"\xfe\xff"))
    likely = "utf-16" if wide else "cp1252"
    return WardroundError(
        Code.MALFORMED_DATA,
        f"{path}, line {line}, is not UTF-8.",
        remedy=f"If it is {likely}, state so in site.yaml: formats: "
        f"{{TABLE: {{encoding: {likely}}}}}. Else re-export the file as UTF-8.",
    )


def _delimiter(header: str) -> str:
    """The likeliest, by what stands outside quotation marks."""
    return max(_DELIMITERS, key=re.sub(r'"[^"]*"', "", header).count)


def _in_utf8(session: Session, path: Path, layout: FileFormat) -> tuple[IO[bytes], str]:
    """The file's content in UTF-8, and its place in SQL. That is the file itself where DuckDB reads
    it, else a copy in memory, compressed, which ends with the session."""
    if layout.encoding == "utf-8" and path.suffix.lower() != ".zip":
        return open_bytes(path), literal(str(path))
    if path.stat().st_size > _LARGEST_COPY:
        raise WardroundError(
            Code.CONFIGURATION,
            f"{path} is too large to be read from a .zip, or in another encoding than UTF-8.",
            remedy=f"Unpack or convert it: iconv -f {layout.encoding} -t utf-8.",
        )
    copy, line = session.scratch(), 1
    with (
        open_bytes(path) as file,
        io.TextIOWrapper(file, layout.encoding, newline="") as texts,
        gzip.open(copy, "wt", compresslevel=1, encoding="utf-8", newline="") as packed,
    ):
        try:
            while block := texts.read(LONGEST_LINE):
                line += block.count("\n")
                packed.write(block)
        except UnicodeDecodeError:
            if layout.encoding == "utf-8":
                raise not_utf8(path, line) from None
            raise WardroundError(
                Code.MALFORMED_DATA,
                f"{path}, after line {line}: is not {layout.encoding}.",
                remedy="Correct its encoding under formats in site.yaml, or re-export the file.",
            ) from None
    return _copied(copy)


def _copied(copy: Path) -> tuple[IO[bytes], str]:
    content: IO[bytes] = gzip.open(copy)  # type: ignore[assignment]  # noqa: SIM115 (closed by the reader of the header)
    return content, f"{literal(str(copy))}, compression = 'gzip'"


def _of_workbook(
    session: Session, path: Path, layout: FileFormat
) -> tuple[IO[bytes], str, FileFormat]:
    """As `_in_utf8`, and how the copy is written."""
    copy = session.scratch()
    with gzip.open(copy, "wt", compresslevel=1, encoding="utf-8", newline="") as packed:
        workbook.write_text(path, layout, packed)
    dates = (*layout.dates, *workbook.ISO) if layout.dates else ()
    written = {"delimiter": ",", "dates": dates}
    return *_copied(copy), layout.model_copy(update=written)


def _source(
    readable: str,
    layout: FileFormat,
    names: Sequence[str],
    delimiter: str,
    quotes: bool,
    *,
    header: bool,
) -> str:
    """What stands after FROM: the file as a table of texts."""
    struct = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in names)
    mark = literal('"') if quotes else "''"
    missing = ", ".join(literal(text) for text in (*MISSING, *layout.missing))
    return (
        f"read_csv({readable}, auto_detect = false, delim = {literal(delimiter)},"
        f" quote = {mark}, escape = {mark}, header = {literal(header)},"
        f" skip = {layout.title_lines}, nullstr = [{missing}],"
        f" max_line_size = {2 * LONGEST_LINE}, columns = {{{struct}}})"
    )


def types_of(
    session: Session,
    path: Path,
    layout: FileFormat,
    source: str,
    usual: Mapping[str, Sequence[ColumnType]],
    fixed: Candidates = lambda column: None,
) -> dict[str, ColumnType]:
    """The type of each column of texts in `source`: as site.yaml states, else as a standard fixes,
    else the first of the usual ones that fits, or TEXT.

    Raises WardroundError: CONFIGURATION for a stated column that is not there, MALFORMED_DATA.
    """
    stated = {name.lower(): kind for name, kind in layout.types.items()}
    if unknown := sorted(set(stated) - {name.lower() for name in usual}):
        raise WardroundError(
            Code.CONFIGURATION,
            f"{path} has no column {unknown[0]}, whose type site.yaml states.",
            remedy="Correct it under formats.",
        )
    known = {
        name: _stated(stated[name.lower()], layout, zoned=session.zoned)
        if name.lower() in stated
        else fixed(name.lower())
        for name in usual
    }
    candidates = {name: usual[name] if kinds is None else kinds for name, kinds in known.items()}
    types = column_types.inferred(session.connection, source, path, candidates)
    for name, kinds in known.items():
        if kinds and types[name] not in kinds:
            raise WardroundError(
                Code.MALFORMED_DATA,
                f"{path}: the column {name} holds what is no {kinds[-1].sql}.",
                remedy="Correct or re-export the file, or the type that site.yaml states.",
            )
    return types


def _stated(kind: Stated, layout: FileFormat, *, zoned: bool) -> Sequence[ColumnType]:
    match kind:
        case "text":
            return (column_types.TEXT,)
        case "integer":
            return (column_types.WHOLE,)
        case "number":
            plain = (layout.decimal, layout.thousands) == (".", "")
            return (column_types.FLOAT,) if plain else _numbers(layout)[1:]
        case "date":
            return [column for column in times_of(layout, zoned=zoned) if column.sql == "DATE"]
        case "time":
            return [column for column in times_of(layout, zoned=zoned) if column.sql != "DATE"]
        case _:
            assert_never(kind)


def _numbers(layout: FileFormat) -> Sequence[ColumnType]:
    if (layout.decimal, layout.thousands) == (".", ""):
        return column_types.INTEGER, column_types.NUMBER
    return column_types.INTEGER, column_types.number(layout.decimal, layout.thousands)


def times_of(layout: FileFormat, *, zoned: bool) -> Sequence[ColumnType]:
    """What a column of days or times may be."""
    if layout.dates:
        return column_types.written_times(layout.dates, zoned=zoned)
    return column_types.DATE, *column_types.times(zoned=zoned)
