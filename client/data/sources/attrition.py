"""Why a cohort is as small as it is: the rows of each step of a view, and what they were lost by.

For the site alone. The steps are the tables of the view's WITH, in their order. Where a view has
those of the shipped ones, `known` tells of values whose unit was not read, and `coding` and
`meaning` of codes that no value set holds and that nobody has put below another.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from client.data.sources import months
from client.data.sources.session import Session, quoted
from client.data.sources.view_sandbox import ParsedView, parts_of

_SHOWN = 5
UNKNOWN_CONCEPT = "concept_id"
"""In place of a code system: a concept that an OMOP vocabulary does not hold."""
_UNREAD = (
    "SELECT name, coalesce(unit, ''), count(*) FROM known WHERE value IS NOT NULL"
    " AND in_unit(value, unit, wanted, name) IS NULL GROUP BY ALL ORDER BY 3 DESC, 1, 2"
)
_UNCOVERED = (
    "SELECT system, code, any_value(times) FROM coding c"
    " WHERE system IS NOT NULL AND code IS NOT NULL AND code_depth(system, code) = 0"
    " AND code_key(system, code) NOT IN (SELECT key FROM known_descendant)"
    " AND system || ' ' || code NOT IN (SELECT code_id FROM meaning)"
    " GROUP BY ALL ORDER BY 3 DESC, 1, 2"
)
_UNPLACED = (
    "SELECT system, code, any_value(times) FROM coding WHERE standard"
    " AND code_depth(system, code) = 0 AND concept_id NOT IN (SELECT code_id FROM meaning)"
    " AND concept_id NOT IN (SELECT descendant_concept_id FROM concept_ancestor)"
    " GROUP BY ALL ORDER BY 3 DESC, 1, 2"
)
"""Of OMOP, where concept_ancestor has every concept of its version, below itself at least."""
_VOCABULARY = ("concept", "concept_ancestor")


_SHOWN_SETS = 10
_TIMES = {
    "appointment": "started",
    "appointments": "started",
    "encounter": "started",
    "observation": "at_time",
    "condition": "at_time",
    "treatment": "at_time",
    "medication": "at_time",
    "stays": "started",
    "results": "taken",
    "events": "happened",
    "visit_occurrence": "visit_start_date",
    "condition_occurrence": "condition_start_date",
    "measurement": "measurement_date",
    "procedure_occurrence": "procedure_date",
    "drug_exposure": "drug_exposure_start_date",
}
"""By what column a table of an export, of a shipped view's files or of the OMOP CDM lies in a
month."""

UncoveredCode = tuple[str, str, int]
"""System, code, records."""
_OPTIONAL = {"LEFT": ("right",), "ANTI": ("right",), "RIGHT": ("left",), "FULL": ("left", "right")}
"""The sides of a join that may have no rows."""


@dataclass(frozen=True)
class Step:
    """One table of the view's WITH. patients: how many, where it has a column of that name. needs:
    the tables without whose rows it has none; sets: the value sets that it names."""

    name: str
    rows: int
    patients: int | None
    needs: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Attrition:
    """needs: the tables without whose rows the view has none; unread:
    (analyte, unit as written, values); uncovered: codes without a value set; unmatched: value sets
    that the view names and no record meets; empty: vocabulary tables without rows; likely: of the
    uncovered codes those whose names (here, in place of the system) are much like what the empty
    steps look for; gaps: see `months`; ends: the month in which all records end, if long ago."""

    steps: tuple[Step, ...]
    needs: tuple[str, ...]
    unread: tuple[tuple[str, str, int], ...]
    uncovered: tuple[UncoveredCode, ...]
    unmatched: tuple[str, ...]
    empty: tuple[str, ...]
    likely: tuple[UncoveredCode, ...] = ()
    gaps: tuple[months.Gap, ...] = ()
    ends: str | None = None

    @property
    def lacking(self) -> tuple[Step, ...]:
        """Where the view has no row: the steps without rows that explain it."""
        strictly = _empty(self)
        widely = _empty(self, through=True) if strictly else []
        for steps in (strictly, widely):
            if any(set(step.sets) & set(self.unmatched) for step in steps):
                return tuple(steps)
        return tuple(strictly)

    @property
    def decisive(self) -> tuple[str, ...]:
        """The value sets without a record that leave the view no rows."""
        wanted = {name for step in self.lacking for name in step.sets}
        return tuple(name for name in self.unmatched if name in wanted)

    @property
    def causes(self) -> tuple[str, ...]:
        """In words, the likely cause of an empty cohort first."""
        said = [f"The table {name} has no rows: no code has descendants." for name in self.empty]
        decisive = self.decisive
        if self.lacking:
            said.append(_why(self.lacking, decisive))
        if self.likely:
            codes = ", ".join(f"{name} {code} ({n})" for name, code, n in self.likely)
            said.append(f"Much like it, but in no value set: {codes}.")
        if self.gaps:
            said.append(f"Months without data: {'; '.join(map(str, self.gaps[:_SHOWN]))}.")
        if others := [name for name in self.unmatched if name not in decisive]:
            more = len(others) - _SHOWN_SETS
            names = ", ".join(others[:_SHOWN_SETS]) + (f" and {more} more" if more > 0 else "")
            said.append(f"No record meets the value sets {names}.")
        if self.uncovered:
            said.append(describe(self.uncovered))
        if self.unread:
            units = ", ".join(f"{a} in {u or 'no unit'} ({n})" for a, u, n in self.unread[:_SHOWN])
            said.append(f"Values whose unit was not read: {units}.")
        if self.ends is not None:
            said.append(f"No record is later than {self.ends}: does the extract end early?")
        return tuple(said)


def describe(codes: Sequence[UncoveredCode]) -> str:
    """Uncovered codes in words."""
    most = ", ".join(f"{s} {c} ({n})" for s, c, n in codes[:_SHOWN])
    said = (
        f"{len(codes)} codes are in no value set and below no other code; most often {most}."
        " State `ancestors` in site.yaml where they lie below one."
    )
    if any(system == UNKNOWN_CONCEPT for system, _, _ in codes):
        said += (
            f" A {UNKNOWN_CONCEPT} is one that the table concept lacks: load the vocabulary of the"
            " version that the records were coded with."
        )
    return said


def _empty(attrition: Attrition, *, through: bool = False) -> list[Step]:
    """The steps without rows that leave none to the view, those first that lack no other's.

    through: also those behind steps with rows, such as one part of a UNION."""
    known, found = {step.name: step for step in attrition.steps}, list[Step]()

    def visit(names: Iterable[str]) -> None:
        for name in names:
            if (step := known.get(name)) and (through or not step.rows):
                del known[name]
                visit(step.needs)
                found.extend([] if step.rows else [step])

    visit(attrition.needs)
    return found


def _why(empty: Sequence[Step], sets: Sequence[str]) -> str:
    lost = next((step for step in empty if step.patients == 0), empty[0])
    first = next((step for step in empty if not set(sets).isdisjoint(step.sets)), empty[0])
    said = f"No patient is left at the step {lost.name}"
    said += "" if first is lost else f": {first.name} has no rows"
    if sets:
        return f"{said}, since no record meets the value set {', '.join(sets)}."
    return f"{said}." if first is not lost else f"{said}: its conditions keep none of its rows."


def measure(session: Session, view: ParsedView, today: date | None = None) -> Attrition:
    """Counts each step of a view that was checked. Raises duckdb.Error as the view itself would."""
    ask = _Questions(session, view)
    used: list[str] = []
    if "meaning" in ask.tables:
        used = [str(name) for (name,) in ask.rows("SELECT DISTINCT name FROM value_set")]
    steps = tuple(_step(ask, name, frozenset(used)) for name in ask.tables)
    named = {str(part["value"]) for part in view.parts if isinstance(part.get("value"), str)}
    met = {name for (name,) in ask.rows("SELECT DISTINCT name FROM meaning")} if used else set()
    unmatched = sorted(name for name in set(used) - met if name in named)
    day = today or date.today()
    now = 12 * day.year + day.month - 1
    by_month = {
        table: rows
        for table, column in _TIMES.items()
        if table in view.named & session.tables and (rows := ask.months(table, column, now))
    }
    found = Attrition(
        steps,
        tuple(_needed({"query": view.parts[0]})),
        tuple(ask.rows(_UNREAD)) if "known" in ask.tables else (),
        uncovered(session, view),
        tuple(unmatched),
        tuple(
            name
            for name in _VOCABULARY
            if name in view.named & session.tables
            and ask.rows(f"SELECT count(*) FROM {name}") == [(0,)]
        ),
        gaps=months.gaps(by_month),
        ends=months.late(by_month, now),
    )
    return replace(found, likely=_likely(ask, found.uncovered, found.decisive))


def uncovered(session: Session, view: ParsedView) -> tuple[UncoveredCode, ...]:
    """The codes that no value set holds and nobody has put below another, the most frequent first;
    none for a view that reads no codes as the shipped ones do. Raises duckdb.Error."""
    ask = _Questions(session, view)
    if "coding" not in ask.tables:
        return ()
    of_omop = "concept_id" in ask.columns("coding")
    return tuple(ask.rows(_UNPLACED if of_omop else _UNCOVERED))


def _step(ask: _Questions, name: str, sets: Container[str]) -> Step:
    counted = "count(DISTINCT patient)" if "patient" in ask.columns(name) else "NULL"
    [(rows, patients)] = ask.rows(f"SELECT count(*), {counted} FROM {quoted(name)}")
    tree = ask.definition(name)
    texts = {part["value"] for part in parts_of(tree) if isinstance(part.get("value"), str)}
    named = tuple(sorted(text for text in texts if text in sets))
    return Step(name, rows, patients, tuple(dict.fromkeys(_needed(tree))), named)


def _needed(part: Any) -> Iterator[str]:
    """The tables in a part of a syntax tree without whose rows it has none."""
    if part.get("type") == "BASE_TABLE":
        yield str(part["table_name"])
    for side in ("query", "node", "from_table", "left", "right", "subquery"):
        if side in part and side not in _OPTIONAL.get(part.get("join_type"), ()):
            yield from _needed(part[side] or {})


def _likely(
    ask: _Questions, codes: Sequence[UncoveredCode], sets: Sequence[str]
) -> tuple[UncoveredCode, ...]:
    """Of the codes those with half of the words that most names in a decisive set have."""
    if not sets or not codes or "display" not in ask.columns("coding"):
        return ()
    names = ask.rows("SELECT DISTINCT name, display FROM value_set WHERE display <> ''")
    displayed = ask.rows("SELECT system, code, display FROM coding WHERE display IS NOT NULL")
    display = {(system, code): text for system, code, text in displayed}
    found: list[UncoveredCode] = []
    for one in sets:
        words = [_words(text) for name, text in names if name == one]
        often = Counter(word for text in words for word in text)
        usual = {word for word, times in often.items() if 2 * times >= len(words)}
        found += [
            (display[system, code], code, times)
            for system, code, times in codes
            if (system, code) in display
            and usual
            and 2 * len(usual & _words(display[system, code])) >= len(usual)
        ]
    return tuple(dict.fromkeys(found))[:_SHOWN]


def _words(text: str) -> frozenset[str]:
    """Of four letters and more, without a kind of concept in brackets."""
    return frozenset(re.findall(r"[^\W\d_]{4,}", re.sub(r"\([^()]*\)$", "", text.lower())))


class _Questions:
    """SELECTs over the tables of a view's own WITH."""

    def __init__(self, session: Session, view: ParsedView) -> None:
        self._connection = session.connection
        self._with: dict[str, Any] = view.parts[0]["node"]["cte_map"]
        self.tables = [str(entry["key"]) for entry in self._with["map"]]

    def definition(self, table: str) -> Any:
        """The syntax tree of a step."""
        return next(entry["value"] for entry in self._with["map"] if entry["key"] == table)

    def months(self, table: str, column: str, now: int) -> dict[int, int]:
        """Month (12 * year + month - 1), up to now -> patients with a row, where the table has the
        column."""
        columns = self.columns(table)
        who = next((name for name in ("patient", "person_id") if name in columns), None)
        if column not in columns or who is None:
            return {}
        at = "12 * year(day) + month(day) - 1"
        days = f"SELECT calendar_day({quoted(column)}) AS day, {who} AS who FROM {table}"
        counted = f"SELECT {at} AS place, count(DISTINCT who) FROM ({days}) GROUP BY 1"
        return dict(self.rows(f"{counted} HAVING place <= {now}"))

    def _statement(self, select: str) -> str:
        [(text,)] = self._connection.execute("SELECT json_serialize_sql(?)", [select]).fetchall()
        tree = json.loads(text)
        tree["statements"][0]["node"]["cte_map"] = self._with
        serialized = json.dumps(tree)
        [(text,)] = self._connection.execute(
            "SELECT json_deserialize_sql(CAST(? AS JSON))", [serialized]
        ).fetchall()
        return str(text)

    def rows(self, select: str) -> list[Any]:
        return self._connection.execute(self._statement(select)).fetchall()

    def columns(self, table: str) -> list[str]:
        result = self._connection.execute(self._statement(f"SELECT * FROM {quoted(table)} LIMIT 0"))
        return [str(column[0]) for column in result.description or ()]
