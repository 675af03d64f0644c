"""What a view may say: one SELECT over the session's tables, with functions that only compute.

The syntax tree is walked (DuckDB's own parser writes it as JSON), and what is not known to be
harmless is refused: any table function but a few, any table that was not registered, any function
that reads settings, the environment or the connection.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import duckdb

from client.data.sources import units
from client.data.sources.session import Session
from protocol.errors import Code, WardroundError

_TABLE_FUNCTIONS = {"range", "generate_series", "unnest", "repeat", "json_each", "json_tree"}
_CALENDAR = re.compile(
    r"date_?(trunc|part)|datetrunc|strftime|last_day|dayname|monthname|to_days|make_date|julian|"
    r"(year|month|day|week|hour|quarter|century|decade|iso_?year|era|millennium)s?|"
    r"(day|week)of(week|month|year)|iso_?dow|week_?day|year_?week|(calendar|earliest|latest)_day"
)
"""Functions of an instant that depend on a time zone."""
_SPANS = re.compile(r"date_?(diff|sub)")
_HOURS = {"hour", "hours", "minute", "minutes", "second", "seconds", "epoch"}
_NODES = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
_SPECIAL = {"unnest", "coalesce", "row", "grouping", "grouping_id"}
"""Functions that the parser knows and the catalogue need not."""
_FORBIDDEN = re.compile(
    r"pg_.*|duckdb_.*|pragma_.*|parquet_.*|read_.*|current_(setting|query|database|catalog|schemas?|"
    r"user|role|.*_id)|session_user|user|getenv|getvariable|in_search_path|which_secret|"
    r"txid_current|nextval|currval|setseed|sleep_ms|write_log|error|stats|glob|query|query_table|"
    r"has_\w+_privilege|parse_duckdb_log_message|json_execute_serialized_sql"
)
RULE = "A view reads the tables of its site.yaml and does nothing else."


@dataclass(frozen=True)
class ParsedView:
    """A parsed view: its statement, and every mapping of its syntax tree."""

    statement: duckdb.Statement
    parts: tuple[dict[str, Any], ...]

    @property
    def named(self) -> frozenset[str]:
        """Every table's name in the text, in lower case, those of its WITH too."""
        return frozenset(str(p["table_name"]).lower() for p in self.parts if _is_table(p))

    @property
    def by_calendar(self) -> bool:
        """Whether it makes days, or other parts of a calendar, of times."""
        return any(map(_by_calendar, self.parts))


def _by_calendar(part: dict[str, Any]) -> bool:
    if isinstance(cast := part.get("cast_type"), dict) and cast.get("id") == "DATE":
        return True
    name = str(part.get("function_name", "")).lower()
    if _SPANS.fullmatch(name):
        unit = (part.get("children") or [{}])[0].get("value") or {}
        return str(unit.get("value", "")).lower() not in _HOURS
    return _CALENDAR.fullmatch(name) is not None


def parse(session: Session, view: str) -> ParsedView:
    """The view's one SELECT. Raises WardroundError(CONFIGURATION)."""
    try:
        statements = session.connection.extract_statements(view)
    except (duckdb.Error, TypeError):  # a lone surrogate is no text for it
        raise WardroundError(
            Code.CONFIGURATION,
            "The view is not valid SQL.",
            remedy="Try it in the duckdb shell on the same files.",
        ) from None
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise WardroundError(
            Code.CONFIGURATION, "The view must be one SELECT.", remedy="Remove what is beside it."
        )
    [(serialized,)] = session.connection.execute("SELECT json_serialize_sql(?)", [view]).fetchall()
    try:
        tree = json.loads(str(serialized))
        if tree.get("error", True) or len(tree.get("statements", ())) != 1:
            raise _refused("is of a kind that cannot be checked")
        return ParsedView(statements[0], tuple(parts_of(tree["statements"])))
    except RecursionError:
        raise _refused("is nested too deeply") from None


def check(session: Session, view: ParsedView) -> None:
    """Whether it says only what a view may, and means one thing: days of instants are those of a
    time zone. Raises WardroundError(CONFIGURATION)."""
    named = {str(part["key"]).lower() for part in view.parts if {"key", "value"} <= part.keys()}
    own, tables = session.own_functions, session.tables
    for part in view.parts:
        if _is_table(part):
            _table(session, part, named, tables)
        elif "show_type" in part:
            raise _refused("describes tables instead of reading them")
        elif isinstance(kind := part.get("type"), str) and kind.endswith("_NODE"):
            if kind not in _NODES:
                raise _refused("does more than select")
        elif kind == "TABLE_FUNCTION":
            name = str(part["function"]["function_name"]).lower()
            if name not in _TABLE_FUNCTIONS:
                raise _refused(f"calls the table function {_word(name)}")
        elif "function_name" in part:
            name = str(part["function_name"]).lower()
            known = name in own or name in session.core_functions or name in _SPECIAL
            if not known or (_FORBIDDEN.fullmatch(name) and name not in own):
                raise _refused(f"calls the function {_word(name)}")
            if name == "in_unit":
                _check_units(part)
    if session.zoned or not view.by_calendar:
        return
    if instants := sorted(column for table, column in session.instants if table in view.named):
        raise WardroundError(
            Code.CONFIGURATION,
            f"The view makes days of {_word(instants[0])}, whose times have an offset from UTC.",
            remedy="State time_zone in site.yaml, such as Europe/Paris.",
        )


def _is_table(part: dict[str, Any]) -> bool:
    return "table_name" in part and "schema_name" in part


def _table(session: Session, part: dict[str, Any], named: set[str], tables: frozenset[str]) -> None:
    """A table is one of the session's, one of a WITH, or one of an attached database."""
    path = [part.get("catalog_name", ""), part["schema_name"], part["table_name"]]
    catalog, schema, table = (str(word).lower() for word in path)
    if not catalog and not schema:
        plain = re.fullmatch(r"[\w ]+", table) is not None
        if table in tables or (plain and table in named):
            return
        raise WardroundError(
            Code.CONFIGURATION,
            f"The view reads {_word(table)}, which is no table here.",
            remedy=f"Its tables: {', '.join(sorted(tables | set(session.databases)))}.",
        )
    attached = {name.lower(): allowed.lower() for name, allowed in session.databases.items()}
    if catalog not in ("", "memory"):
        allowed = attached.get(catalog) == schema
    elif not catalog and schema in attached:
        allowed = True  # database.table
    else:
        allowed = schema == "main" and table in tables
    if not allowed:
        raise _refused(f"reads {_word(table)} outside its sources")
    session.check_faithful(catalog if catalog in attached else schema, table)


def _check_units(part: dict[str, Any]) -> None:
    """A unit or analyte that stands in the view's text must be known: a misspelt one would make
    every value missing."""
    constants = [child.get("value", {}).get("value") for child in part["children"]]
    wanted, analyte = (constants + [None] * 4)[2:4]
    scales = units.table()
    if isinstance(analyte, str) and analyte not in scales:
        raise WardroundError(
            Code.CONFIGURATION,
            f"The view converts units of {_word(analyte)}, which in_unit does not know.",
            remedy=f"It knows {', '.join(sorted(scales))}.",
        )
    both = isinstance(analyte, str) and isinstance(wanted, str)
    if both and wanted.lower() not in scales[analyte]:
        raise WardroundError(
            Code.CONFIGURATION,
            f"The view wants a unit for {analyte} that in_unit does not know.",
            remedy=f"It knows {', '.join(sorted(scales[analyte]))}.",
        )


def parts_of(tree: Any) -> Iterator[dict[str, Any]]:
    """Every mapping in the tree."""
    if isinstance(tree, dict):
        yield tree
        for value in tree.values():
            yield from parts_of(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from parts_of(value)


def _word(name: str) -> str:
    """A name of the view's own text, cut to what an error may show."""
    return name if re.fullmatch(r"[\w.$-]{1,64}", name) else "(a name that is no word)"


def _refused(what: str) -> WardroundError:
    return WardroundError(Code.CONFIGURATION, f"The view {what}.", remedy=RULE)
