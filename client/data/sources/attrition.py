"""Why a cohort is as small as it is: the rows of each step of a view, and what they were lost by.

For the site alone. The steps are the tables of the view's WITH, in their order. Where a view has
those of the shipped ones, `known` tells of values whose unit was not read, and `coding` and
`meaning` of codes that no value set holds and that nobody has put below another.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from client.data.sources.session import Session, quoted
from client.data.sources.view_sandbox import ParsedView

_SHOWN = 10
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
_VOCABULARY = ("concept", "concept_ancestor")


@dataclass(frozen=True)
class Step:
    """One table of the view's WITH. patients: how many, where it has a column of that name."""

    name: str
    rows: int
    patients: int | None


@dataclass(frozen=True)
class Attrition:
    """unread: (analyte, unit as written, values); uncovered: (code system, code, records);
    unmatched: value sets that the view names and no record meets; empty: vocabulary tables without
    rows."""

    steps: tuple[Step, ...]
    unread: tuple[tuple[str, str, int], ...]
    uncovered: tuple[tuple[str, str, int], ...]
    unmatched: tuple[str, ...]
    empty: tuple[str, ...]

    @property
    def causes(self) -> tuple[str, ...]:
        """In words, the likely cause of an empty cohort first."""
        said = [f"The table {name} has no rows: no code has descendants." for name in self.empty]
        if lost := [step.name for step in self.steps if step.patients == 0]:
            said.append(f"No patient is left at the step {lost[0]}.")
        if self.unmatched:
            said.append(f"No record meets the value sets {', '.join(self.unmatched)}.")
        if self.uncovered:
            codes = ", ".join(f"{s} {c} ({n})" for s, c, n in self.uncovered[:_SHOWN])
            said.append(
                f"{len(self.uncovered)} codes are in no value set and below no other code; most"
                f" often {codes}. State `ancestors` in site.yaml where they lie below one."
            )
        if self.unread:
            units = ", ".join(f"{a} in {u or 'no unit'} ({n})" for a, u, n in self.unread[:_SHOWN])
            said.append(f"Values whose unit was not read: {units}.")
        return tuple(said)


def look(session: Session, view: ParsedView) -> Attrition:
    """Counts each step of a view that was checked. Raises duckdb.Error as the view itself would."""
    ask = _Questions(session, view)
    steps = []
    for name in ask.tables:
        counted = "count(DISTINCT patient)" if "patient" in ask.columns(name) else "NULL"
        [(rows, patients)] = ask.rows(f"SELECT count(*), {counted} FROM {quoted(name)}")
        steps.append(Step(name, rows, patients))
    named = {str(part["value"]) for part in view.parts if isinstance(part.get("value"), str)}
    unmatched: list[str] = []
    if "meaning" in ask.tables:
        used = ask.rows("SELECT DISTINCT name FROM value_set EXCEPT SELECT name FROM meaning")
        unmatched = sorted(str(name) for (name,) in used if name in named)
    empty = [
        name
        for name in _VOCABULARY
        if name in view.named & session.tables
        and ask.rows(f"SELECT count(*) FROM {name}") == [(0,)]
    ]
    return Attrition(
        tuple(steps),
        tuple(ask.rows(_UNREAD)) if "known" in ask.tables else (),
        tuple(ask.rows(_UNCOVERED)) if "coding" in ask.tables else (),
        tuple(unmatched),
        tuple(empty),
    )


class _Questions:
    """SELECTs over the tables of a view's own WITH."""

    def __init__(self, session: Session, view: ParsedView) -> None:
        self._connection = session.connection
        self._with: dict[str, Any] = view.parts[0]["node"]["cte_map"]
        self.tables = [str(entry["key"]) for entry in self._with["map"]]

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
