"""A condition on one record, as a closed tree: what a query may ask of a site's columns.

It travels as a document: no SQL, no code, only comparisons of declared columns with constants,
joined by and, or, not. Truth is three-valued (Kleene 1938, strong tables, as in SQL): a comparison
with a missing value is unknown, not(unknown) is unknown, and unknown joins as it must. A record is
selected where the whole condition is true; `missing` alone is never unknown.
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
MOST_NODES = 200
MOST_DEPTH = 16
_WORDS = frozenset({"and", "or", "not", "in", "is", "missing"})


class Compares(Document):
    """A number column against a constant, in the column's unit."""

    kind: Literal["compares"] = "compares"
    column: ColumnName
    order: Order
    value: Annotated[float, Field(ge=-1e15, le=1e15)]


class Among(Document):
    """A category column: one of these."""

    kind: Literal["among"] = "among"
    column: ColumnName
    categories: Annotated[tuple[Category, ...], Field(min_length=1, max_length=1000, strict=False)]


class Missing(Document):
    """The column has no value."""

    kind: Literal["missing"] = "missing"
    column: ColumnName


class Not(Document):
    """The opposite; of unknown, unknown."""

    kind: Literal["not"] = "not"
    of: Condition


class Both(Document):
    """All of them."""

    kind: Literal["and"] = "and"
    of: Annotated[tuple[Condition, ...], Field(min_length=2, max_length=100, strict=False)]


class Either(Document):
    """At least one of them."""

    kind: Literal["or"] = "or"
    of: Annotated[tuple[Condition, ...], Field(min_length=2, max_length=100, strict=False)]


Condition = Annotated[Compares | Among | Missing | Not | Both | Either, Field(discriminator="kind")]
Leaf = Compares | Among | Missing

for _node in (Not, Both, Either):
    _node.model_rebuild()


def leaves(condition: Condition) -> Iterator[Leaf]:
    """Every comparison in it, from left to right."""
    match condition:
        case Compares() | Among() | Missing():
            yield condition
        case Not() | Both() | Either():
            for part in _parts(condition):
                yield from leaves(part)
        case never:
            assert_never(never)


def _parts(condition: Not | Both | Either) -> tuple[Condition, ...]:
    return (condition.of,) if isinstance(condition, Not) else condition.of


def check_size(condition: Condition | None) -> None:
    """Raises ValueError for a tree too deep or too large to be read by a person."""
    if condition is not None and _size(condition, 1) > MOST_NODES:
        raise ValueError(f"a condition may have {MOST_NODES} parts")


def _size(condition: Condition, depth: int) -> int:
    if depth > MOST_DEPTH:
        raise ValueError(f"a condition may be nested {MOST_DEPTH} deep")
    match condition:
        case Compares() | Among() | Missing():
            return 1
        case Not() | Both() | Either():
            return 1 + sum(_size(part, depth + 1) for part in _parts(condition))
    assert_never(condition)


def in_words(condition: Condition) -> str:
    """As `launch.queries.condition_parser` reads it: `age >= 60 and sex = 0`."""
    match condition:
        case Compares():
            return f"{condition.column} {condition.order} {condition.value:.15g}"
        case Among(categories=(only,)):
            return f"{condition.column} = {_quoted(only)}"
        case Among():
            listed = ", ".join(map(_quoted, condition.categories))
            return f"{condition.column} in ({listed})"
        case Missing():
            return f"{condition.column} is missing"
        case Not():
            return f"not ({in_words(condition.of)})"
        case Both() | Either():
            parts = (
                f"({in_words(part)})" if isinstance(part, Both | Either) else in_words(part)
                for part in condition.of
            )
            return f" {condition.kind} ".join(parts)
    assert_never(condition)


def _quoted(category: str) -> str:
    plain = re.fullmatch(r"[A-Za-z0-9_]+", category) and category not in _WORDS
    return category if plain else "'" + category.replace("'", "''") + "'"
