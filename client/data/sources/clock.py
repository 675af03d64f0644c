"""One clock for all sources: functions that make instants and calendar days of what tells time.

A view calls them on texts (FHIR writes 2020, 2020-03, 2020-03-01 or 2020-03-01T10:00:00+01:00) and
on columns of DuckDB's own types alike:
- `instant(value)`: TIMESTAMPTZ, the moment; NULL where no time of day is known;
- `calendar_day(value)`: DATE, the day at the site; NULL where only a month or year is known;
- `earliest_day(value)`, `latest_day(value)`: DATE, the bounds of a day that is known in part, so
  that `latest_day(a) < earliest_day(b)` means "surely before".

Days are those of the site's time zone. Where site.yaml states none, a text's day is the one that is
written. A time without an offset is one at the site.
"""

from __future__ import annotations

from dataclasses import dataclass

from client.data.sources.column_types import LOCAL_INSTANT
from client.data.sources.session import INSTANT, Session, literal, quoted

_TEXT = "CAST(value AS VARCHAR)"
_MICROSECONDS = (
    f"regexp_replace({_TEXT}, '(\\.[0-9]{{6}})[0-9]+', '\\1')"  # some write 7 digits or 9
)
_TIMED = (
    f"regexp_full_match({_MICROSECONDS}, {literal(LOCAL_INSTANT.written)}) AND length({_TEXT}) > 10"
)
_READ = LOCAL_INSTANT.read.format(text=_MICROSECONDS, TRY_="TRY_")
_YEAR, _MONTH = (
    f"regexp_full_match({_TEXT}, '{written}')" for written in ("\\d{4}", "\\d{4}-\\d\\d")
)
_MIDNIGHT = r".*[T ]00:00(:00(\.0+)?)?(Z|z|[+-][0-9]{2}:?[0-9]{2})?"


def register(session: Session) -> None:
    """Makes the functions."""
    day = "CAST(instant(value) AS DATE)"
    if not session.zoned:
        day = f"CASE WHEN instant(value) IS NOT NULL THEN TRY_CAST(left({_TEXT}, 10) AS DATE) END"
    macros = {
        "instant": "CASE WHEN typeof(value) = 'DATE' THEN NULL WHEN typeof(value) = 'VARCHAR'"
        f" THEN CASE WHEN {_TIMED} THEN {_READ} END ELSE TRY_CAST(value AS TIMESTAMPTZ) END",
        "calendar_day": "CASE WHEN typeof(value) <> 'VARCHAR' THEN TRY_CAST(value AS DATE)"
        f" WHEN length({_TEXT}) > 10 THEN {day} WHEN length({_TEXT}) = 10"
        f" THEN TRY_CAST({_TEXT} AS DATE) END",
        "earliest_day": f"CASE WHEN {_YEAR} THEN TRY_CAST({_TEXT} || '-01-01' AS DATE)"
        f" WHEN {_MONTH} THEN TRY_CAST({_TEXT} || '-01' AS DATE) ELSE calendar_day(value) END",
        "latest_day": f"CASE WHEN {_YEAR} THEN TRY_CAST({_TEXT} || '-12-31' AS DATE)"
        f" WHEN {_MONTH} THEN last_day(TRY_CAST({_TEXT} || '-01' AS DATE))"
        " ELSE calendar_day(value) END",
    }
    for name, body in macros.items():
        session.connection.execute(f"CREATE MACRO {name}(value) AS {body}")


def on_the_clock(session: Session, source: str) -> str:
    """A SELECT of all columns of `source` (what stands after FROM): times of day that are all
    midnight are days; times without an offset are instants, where the site has a time zone."""
    described = session.connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
    kinds = {str(name): str(kind) for name, kind, *_ in described}
    times = [name for name, kind in kinds.items() if kind.startswith("TIMESTAMP")]
    if not times:
        return f"SELECT * FROM {source}"
    tests = ", ".join(f"bool_and({n} = date_trunc('day', {n}))" for n in map(quoted, times))
    [midnights] = session.connection.execute(f"SELECT {tests} FROM {source}").fetchall()
    types = {name: "DATE" for name, midnight in zip(times, midnights, strict=True) if midnight}
    if session.zoned:
        types = {name: "TIMESTAMPTZ" for name in times if kinds[name] != INSTANT} | types
    if not types:
        return f"SELECT * FROM {source}"
    casts = ", ".join(f"CAST({quoted(n)} AS {kind}) AS {quoted(n)}" for n, kind in types.items())
    return f"SELECT * REPLACE ({casts}) FROM {source}"


@dataclass(frozen=True)
class WrittenTimes:
    """What stands in a column of texts that tell time. Counts, of those with a time of day."""

    timed: int
    midnight: int
    """At midnight, as it is written."""
    midnight_here: int
    """At midnight in the session's time zone."""
    utc: int
    local: int
    """With another offset than Z."""

    @property
    def are_days(self) -> bool:
        """Whether the times of day are only filled in."""
        return self.timed > 0 and self.timed in (self.midnight, self.midnight_here)

    def day(self, text: str) -> str:
        """The SQL expression for the text without its filled-in time of day."""
        day = f"left({text}, 10)"
        if self.midnight < self.timed:
            day = f"CAST(CAST(instant({text}) AS DATE) AS VARCHAR)"
        return f"CASE WHEN length({text}) > 10 THEN {day} ELSE {text} END"

    @property
    def partly_without_offset(self) -> bool:
        return 0 < self.utc + self.local < self.timed

    @property
    def two_clocks(self) -> bool:
        """Whether some are told in UTC and some at a place: what is written is not one calendar."""
        return self.utc > 0 and self.local > 0


def written_times(session: Session, table: str, text: str) -> WrittenTimes:
    """Of one column of the table; text: the SQL expression for it, in FHIR's notation."""
    tests = (
        "instant(t) IS NOT NULL",
        f"regexp_full_match(t, {literal(_MIDNIGHT)})",
        "instant(t) = date_trunc('day', instant(t))",
        "regexp_full_match(t, '.*[Zz]')",
        "regexp_full_match(t, '.*T.*[+-][0-9]{2}:?[0-9]{2}')",
    )
    counts = ", ".join(f"count(*) FILTER (WHERE {test})" for test in tests)
    [row] = session.connection.execute(
        f"SELECT {counts} FROM (SELECT {text} AS t FROM {table}) WHERE length(t) > 10"
    ).fetchall()
    return WrittenTimes(*row)
