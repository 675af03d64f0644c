"""A sheet of a workbook (.xlsx) -> delimited text, a row at a time.

Each cell is written so that nothing is lost: numbers with all digits, dates and times as ISO 8601
has them. What type a column has is then found as for any delimited file.
"""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time
from pathlib import Path
from typing import IO, Any
from xml.etree.ElementTree import ParseError

from client.data.sources.file_format import FileFormat
from protocol.errors import Code, WardroundError

ISO = ("%Y-%m-%d", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M:%S.%f")
SUFFIX = ".xlsx"
_BROKEN = (zipfile.BadZipFile, ParseError, KeyError, ValueError, TypeError)


def is_one(path: Path) -> bool:
    """By its name."""
    return path.suffix.lower() == SUFFIX


def write_text(path: Path, layout: FileFormat, into: IO[str]) -> None:
    """Writes the sheet as CSV. Blank rows below the column names are left out, as are cells
    beside them.

    Raises WardroundError: MALFORMED_DATA for a broken workbook, CONFIGURATION for a sheet that is
    not there."""
    writer = csv.writer(into, lineterminator="\n")
    width, number = 0, 0
    try:
        for number, row in enumerate(_rows(path, layout), start=1):
            cells = [_text(value, layout) for value in row]
            if number <= layout.title_lines + 1:
                while cells and not cells[-1]:
                    cells.pop()
                width = len(cells)
                writer.writerow(cells)
            elif any(cells):
                writer.writerow((cells + [""] * width)[:width])
    except _BROKEN:
        place = f", after row {number}" if number else ""
        raise WardroundError(
            Code.MALFORMED_DATA,
            f"{path}{place}: is no workbook, or a damaged one.",
            remedy="Open it, and save it again as .xlsx; an encrypted one without a password.",
        ) from None


def _rows(path: Path, layout: FileFormat) -> Iterator[Sequence[Any]]:
    import openpyxl  # slow to import, and seldom wanted

    book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    try:
        name = layout.sheet or book.sheetnames[0]
        if name not in book.sheetnames:
            raise WardroundError(
                Code.CONFIGURATION,
                f"{path} has no sheet of the name that site.yaml states.",
                remedy="Correct its sheet under formats.",
            )
        yield from book[name].iter_rows(values_only=True)
    finally:
        book.close()


def _text(value: Any, layout: FileFormat) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case float() if value.is_integer() and abs(value) < 2**53:
            return str(int(value))
        case float():
            return repr(value).replace(".", layout.decimal)
        case datetime() if value.time() == time():
            return value.date().isoformat()
        case datetime() | date() | time():
            return value.isoformat(sep=" ") if isinstance(value, datetime) else value.isoformat()
    return str(value)
