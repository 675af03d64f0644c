"""Texts of a delimited file -> types of its columns: only what loses nothing of any value.

A column has a type if every one of its texts is written as that type is, in full; else it stays
text. So an identifier with leading zeros, or of more digits than a float64 holds, stays text, and
so does a date that could be read in two ways (01/02/2020), unless the site says how to read it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from client.data.sources.session import literal, quoted
from protocol.errors import Code, WardroundError

_DATE = r"[1-9][0-9]{3}(-[0-9]{1,2}-|/[0-9]{1,2}/)[0-9]{1,2}"
_CLOCK = r"([01]?[0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{1,6}0*)?)?"
_OFFSET = r"(Z|z| ?UTC| ?[+-][0-9]{2}(:?[0-9]{2})?)"
_TWO_DIGIT_YEAR = (
    r"([0-9]{1,2}([-/.])[0-9]{1,2}([-/.])[0-9]{2}|[0-9]{1,2}[- /][A-Za-z]{3}[- /][0-9]{2})([ T].*)?"
)


@dataclass(frozen=True)
class ColumnType:
    """How texts of one type are written, and how SQL reads them.

    `sql`: DuckDB's name of the type. `written`: the regular expression (RE2) that all of such a
    text matches. `read`: an SQL expression over {text}, in which {TRY_} stands before what gives
    NULL, or else fails, for a text that is no such value.
    """

    sql: str
    written: str
    read: str

    def of(self, column: str) -> str:
        """The SQL expression that reads a column of texts, and fails where one is another's."""
        return self.read.format(text=quoted(column), TRY_="")

    def misfit(self, column: str) -> str:
        """The SQL condition for a text that is not of this type."""
        name, value = quoted(column), self.read.format(text=quoted(column), TRY_="TRY_")
        matches = f"regexp_full_match({name}, {literal(self.written)})"
        return f"{name} IS NOT NULL AND (NOT {matches} OR {value} IS NULL)"


TEXT = ColumnType("VARCHAR", r"(?s).*", "{text}")
INTEGER = ColumnType("BIGINT", r"[+-]?(0|[1-9][0-9]{0,18})", "{TRY_}CAST({text} AS BIGINT)")
WHOLE = ColumnType("BIGINT", r"[+-]?[0-9]{1,19}(\.0*)?", "{TRY_}CAST({text} AS BIGINT)")
"""An integer where it is known that there is one: 12.0 is 12, 012 too."""
NUMBER = ColumnType(
    "DOUBLE",
    r"[+-]?((0|[1-9][0-9]{0,14})(\.[0-9]*)?|\.[0-9]+|[0-9](\.[0-9]{0,16})?[eE][+-][0-9]{1,3})",
    "{TRY_}CAST({text} AS DOUBLE)",
)
"""At most 15 digits before the point, which float64 keeps; 1E5 without a sign may be a code."""
FLOAT = ColumnType(
    "DOUBLE",
    r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?",
    "{TRY_}CAST({text} AS DOUBLE)",
)
"""A number where it is known that there is one."""
JSON_NUMBER = ColumnType(
    "DOUBLE",
    r"-?[0-9]{1,15}(\.[0-9]*)?([eE][+-]?[0-9]{1,3})?",
    "{TRY_}CAST({text} AS DOUBLE)",
)
"""A number by RFC 8259, section 6, whose digits float64 keeps."""
DATE = ColumnType("DATE", _DATE + r"([ T]0?0:00(:00(\.0+)?)?)?", "{TRY_}CAST({text} AS DATE)")
"""A column whose times of day are all midnight is one of days."""
DAY = ColumnType("DATE", _DATE + r"([ T].*)?", "{TRY_}CAST({text} AS DATE)")
"""A day where it is known that there is one, as it is written, whatever time of day follows."""
TIME = ColumnType("TIMESTAMP", rf"{_DATE}([ T]{_CLOCK})?", "{TRY_}CAST({text} AS TIMESTAMP)")
_SECONDS = rf"([ T][0-9]{{1,2}}:[0-9]{{2}})({_OFFSET})$".replace("{", "{{").replace("}", "}}")
_WITH_OFFSET = (  # DuckDB wants seconds, a capital Z, and no blank before the offset
    f"{{TRY_}}CAST(upper(regexp_replace(regexp_replace({{text}}, {literal(_SECONDS)}, "
    "'\\1:00\\2'), ' ([+-])', '\\1')) AS TIMESTAMPTZ)"
)
INSTANT = ColumnType("TIMESTAMPTZ", rf"{_DATE}[ T]{_CLOCK}{_OFFSET}", _WITH_OFFSET)
LOCAL_INSTANT = ColumnType("TIMESTAMPTZ", rf"{_DATE}([ T]{_CLOCK}{_OFFSET}?)?", _WITH_OFFSET)
"""With or without an offset: without, in the session's time zone."""


def times(*, zoned: bool) -> list[ColumnType]:
    """What a column of times may be: a day alone is its midnight. zoned: the session's time zone is
    the site's, in which a time without an offset is an instant."""
    return [LOCAL_INSTANT] if zoned else [TIME, INSTANT]


_SAMPLE = 10_000
"""Rows that suggest the types before all rows decide them."""


def number(decimal: str, thousands: str) -> ColumnType:
    """Numbers with these signs before the fraction and between groups of three digits; '' for no
    sign. A blank stands for the narrow and the unbreakable ones too."""
    point = re.escape(decimal)
    group = "[ \u00a0\u202f]" if thousands == " " else re.escape(thousands)
    whole = r"(0|[1-9][0-9]{0,14})"
    if thousands:
        whole = rf"(0|[1-9][0-9]{{0,14}}|[1-9][0-9]{{0,2}}({group}[0-9]{{3}}){{1,4}})"
    text = "{text}"
    if thousands:
        text = f"regexp_replace({text}, {literal(group)}, '', 'g')"
    if decimal != ".":
        text = f"replace({text}, {literal(decimal)}, '.')"
    return ColumnType(
        "DOUBLE",
        rf"[+-]?({whole}({point}[0-9]*)?|{point}[0-9]+)",
        f"{{TRY_}}CAST({text} AS DOUBLE)",
    )


def written_times(formats: Sequence[str], *, zoned: bool) -> list[ColumnType]:
    """Days, and times, that are written as one of `formats` says (as for strptime)."""
    listed = ", ".join(literal(one.replace("{", "{{").replace("}", "}}")) for one in formats)
    read = f"{{TRY_}}strptime({{text}}, [{listed}])"
    sure = f"CASE WHEN year({read}) >= 1000 THEN {read} END"  # %Y reads 20 as the year 20
    offset = any("%z" in one or "%Z" in one for one in formats)
    instant = "TIMESTAMPTZ" if offset or zoned else "TIMESTAMP"
    day = f"CASE WHEN {sure} = date_trunc('day', {sure}) THEN CAST({sure} AS DATE) END"
    return [
        ColumnType("DATE", TEXT.written, day),
        ColumnType(instant, TEXT.written, f"CAST({sure} AS {instant})"),
    ]


def inferred(
    connection: duckdb.DuckDBPyConnection,
    source: str,
    path: Path,
    candidates: Mapping[str, Sequence[ColumnType]],
) -> dict[str, ColumnType]:
    """Column -> the first of its candidates that all its texts in `source` are of, or TEXT.

    source: what stands after FROM, all of whose columns are texts; path: the file in errors.
    Raises WardroundError(MALFORMED_DATA) for a column of times that none of its candidates reads:
    some are no times, or only some have an offset, or the years have two digits.
    """
    left = {name: list(kinds) for name, kinds in candidates.items()}
    limit = f" LIMIT {_SAMPLE}"
    while candidates:
        tried = {name: kinds[0] for name, kinds in left.items() if kinds and kinds[0] is not TEXT}
        tests = [f"count(*) FILTER (WHERE {kind.misfit(name)})" for name, kind in tried.items()]
        texts = [f"max(length({quoted(name)}))" for name in left if name not in tried]
        counts = connection.execute(
            f"SELECT {', '.join([*tests, *texts])} FROM (SELECT * FROM {source}{limit})"
        ).fetchone()
        wrong = [name for name, misfits in zip(tried, counts or (), strict=False) if misfits]
        for name in wrong:
            left[name].pop(0)
        if not wrong and not limit:
            break
        if not wrong:
            limit = ""
    misread = [name for name, kinds in left.items() if not kinds]
    _refuse_doubtful(connection, source, path, misread)
    return {name: kinds[0] if kinds else TEXT for name, kinds in left.items()}


def _refuse_doubtful(
    connection: duckdb.DuckDBPyConnection, source: str, path: Path, texts: Sequence[str]
) -> None:
    """Whether a view would take texts for times, and take them wrongly. A doubt is one of all texts
    of a column: the first rows clear most columns of it, and the file need not be read again."""
    written = (LOCAL_INSTANT.written, _TWO_DIGIT_YEAR)
    like = [[f"regexp_full_match({quoted(name)}, {literal(w)})" for w in written] for name in texts]
    first = [" OR ".join(f"bool_and({one}) IS NOT false" for one in both) for both in like]
    if first:
        sample = f"(SELECT * FROM {source} LIMIT {_SAMPLE})"
        found = connection.execute(f"SELECT {', '.join(first)} FROM {sample}").fetchone() or ()
        texts = [name for name, doubtful in zip(texts, found, strict=True) if doubtful]
    tests = []
    for name in texts:
        like_times = f"regexp_full_match({quoted(name)}, {literal(LOCAL_INSTANT.written)})"
        two_digits = f"regexp_full_match({quoted(name)}, {literal(_TWO_DIGIT_YEAR)})"
        impossible = f"count(*) FILTER (WHERE {LOCAL_INSTANT.misfit(name)}) > 0"
        tests += [f"bool_and({like_times}) AND {impossible}", f"bool_and({like_times})"]
        tests += [f"bool_and({two_digits})"]
    if not tests:
        return
    found = connection.execute(f"SELECT {', '.join(tests)} FROM {source}").fetchone() or ()
    doubts = (
        ("a date or time that is none", "Correct or re-export the file."),
        ("times of which only some have an offset from UTC", "State time_zone in site.yaml."),
        ("dates whose years have two digits", "State formats in site.yaml, or its type as text."),
    )
    for number, doubtful in enumerate(found):
        if doubtful:
            what, remedy = doubts[number % len(doubts)]
            column = texts[number // len(doubts)]
            raise WardroundError(
                Code.MALFORMED_DATA, f"{path}: the column {column} holds {what}.", remedy=remedy
            )
