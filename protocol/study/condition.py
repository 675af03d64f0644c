"""A condition on one record: a closed tree of comparisons that a query makes with columns.

It travels as a document: no SQL, no code, only comparisons of declared columns with constants,
joined by and, or, not. Truth is three-valued (Kleene 1938, strong tables, as in SQL): a comparison
with a missing value is unknown; only `missing` is always true or false. A record is selected where
the whole condition is true.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal, assert_never

from pydantic import Field, StringConstraints

from protocol.document import Document

ColumnName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
Category = Annotated[str, StringConstraints(min_length=1, max_length=100)]
Order = Literal["<", "<=", ">", ">=", "=", "!="]
MAX_NODES = 200
MAX_DEPTH = 16
_WORDS = frozenset({"and", "or", "not", "in", "is", "missing"})


class Comparison(Document):
    """Compares a number column with a constant, in the column's unit."""

    kind: Literal["compares"] = "compares"
    column: ColumnName
    order: Order
    value: Annotated[float, Field(ge=-1e15, le=1e15)]


class IsOneOf(Document):
    """A category column has one of these values."""

    kind: Literal["among"] = "among"
    column: ColumnName
    categories: Annotated[tuple[Category, ...], Field(min_length=1, max_length=1000, strict=False)]


class IsMissing(Document):
    """The column has no value."""

    kind: Literal["missing"] = "missing"
    column: ColumnName


class Not(Document):
    """Negation; unknown stays unknown."""

    kind: Literal["not"] = "not"
    of: Condition


class AllOf(Document):
    """Conjunction: all parts hold."""

    kind: Literal["and"] = "and"
    of: Annotated[tuple[Condition, ...], Field(min_length=2, max_length=100, strict=False)]


class AnyOf(Document):
    """Disjunction: at least one part holds."""

    kind: Literal["or"] = "or"
    of: Annotated[tuple[Condition, ...], Field(min_length=2, max_length=100, strict=False)]


Condition = Annotated[
    Comparison | IsOneOf | IsMissing | Not | AllOf | AnyOf, Field(discriminator="kind")
]
Leaf = Comparison | IsOneOf | IsMissing

for _node in (Not, AllOf, AnyOf):
    _node.model_rebuild()


def leaves(condition: Condition) -> Iterator[Leaf]:
    """Every comparison in the condition, from left to right."""
    return (node for node, _ in _nodes(condition, 1) if isinstance(node, Leaf))


def check_size(condition: Condition) -> None:
    """Raises ValueError for a tree too deep or too large to be read by a person."""
    for count, (_, depth) in enumerate(_nodes(condition, 1), start=1):
        if depth > MAX_DEPTH:
            raise ValueError(f"a condition may be nested {MAX_DEPTH} deep")
        if count > MAX_NODES:
            raise ValueError(f"a condition may have {MAX_NODES} parts")


def _nodes(condition: Condition, depth: int) -> Iterator[tuple[Condition, int]]:
    """The condition at this depth, then every node below it with its own."""
    yield condition, depth
    match condition:
        case Comparison() | IsOneOf() | IsMissing():
            return
        case Not():
            yield from _nodes(condition.of, depth + 1)
        case AllOf() | AnyOf():
            for part in condition.of:
                yield from _nodes(part, depth + 1)
        case never:
            assert_never(never)


def in_words(condition: Condition) -> str:
    """As `launch.queries.condition_parser` reads it: `age >= 60 and sex = 0`."""
    match condition:
        case Comparison():
            return f"{condition.column} {condition.order} {condition.value:.15g}"
        case IsOneOf(categories=(only,)):
            return f"{condition.column} = {_quoted(only)}"
        case IsOneOf():
            listed = ", ".join(map(_quoted, condition.categories))
            return f"{condition.column} in ({listed})"
        case IsMissing():
            return f"{condition.column} is missing"
        case Not():
            return f"not ({in_words(condition.of)})"
        case AllOf() | AnyOf():
            parts = (
                f"({in_words(part)})" if isinstance(part, AllOf | AnyOf) else in_words(part)
                for part in condition.of
            )
            return f" {condition.kind} ".join(parts)
    assert_never(condition)


def _quoted(category: str) -> str:
    plain = re.fullmatch(r"[A-Za-z0-9_]+", category) and category not in _WORDS
    return category if plain else "'" + category.replace("'", "''") + "'"
