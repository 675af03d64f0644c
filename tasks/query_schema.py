"""Checks of a query against a task's schema, by both sides, before any data is touched.

For a query what the label is made of are columns beside the others (`records_schema`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from protocol.errors import Code, WardroundError, unknown_name
from protocol.outcomes.binary import Binary
from protocol.outcomes.events import EventCount
from protocol.outcomes.kinds import OutcomeKind
from protocol.outcomes.multiclass import Multiclass
from protocol.outcomes.multilabel import MultiLabel
from protocol.outcomes.ordinal import Ordinal
from protocol.outcomes.regression import Regression
from protocol.outcomes.segmentation import Segmentation
from protocol.outcomes.time_to_event import TimeToEvent
from protocol.study.condition import Comparison, IsMissing, IsOneOf, Leaf, leaves
from protocol.study.query import (
    Axis,
    Bins,
    Categories,
    Cells,
    ConditionAxis,
    Differing,
    Mean,
    Query,
)
from tasks.schema import Column, Schema

PREDICTED = "predicted_"
OTHER = "other"
"""The catch-all category of a column that has one."""


def columns(schema: Schema) -> dict[str, Column]:
    """By name."""
    return {column.name: column for column in schema.columns}


def categories(column: Column) -> tuple[str, ...]:
    """Of a category column, the catch-all included."""
    return (*column.categories, OTHER) if column.other else column.categories


def scored_schema(schema: Schema, outcome: OutcomeKind) -> Schema:
    """The schema of a released model's predictions: what it was given, and before these columns
    what it said, as numbers called PREDICTED and the name of the score's column. No label, which
    nobody knows then."""
    low, high = outcome.score_range
    said = tuple(
        Column(PREDICTED + name, "what the model predicted", low=low, high=high)
        for name in outcome.score_columns
    )
    return replace(schema, columns=(*said, *schema.columns), images=(), label="", label_meaning="")


def records_schema(schema: Schema, outcome: OutcomeKind) -> Schema:
    """The schema of a task's records as a query reads them: beside the other columns stand those
    that the label is made of, as the kind of outcome says. None where that is a mask."""
    learned = _label_columns(schema, outcome) if schema.label else ()
    return replace(schema, columns=(*schema.columns, *learned), label="", labels=(), masked="")


def _label_columns(schema: Schema, outcome: OutcomeKind) -> tuple[Column, ...]:
    """Categories are the numbers from 0 on; of numbers the range is the one that the task learns,
    whose ends stand for what is beyond."""
    names, meaning = schema.label_columns, schema.label_meaning

    def classes(name: str, number: int) -> Column:
        return Column(name, meaning, "category", categories=tuple(map(str, range(number))))

    match outcome:
        case Binary():
            return (classes(names[0], 2),)
        case Multiclass() | Ordinal():
            return (classes(names[0], outcome.number),)
        case MultiLabel():
            return tuple(classes(name, 2) for name in names)
        case Regression():
            return (Column(names[0], meaning, low=outcome.low, high=outcome.high),)
        case EventCount():
            return (Column(names[0], meaning, low=0, high=outcome.most),)
        case TimeToEvent():
            time, event = names
            came = replace(classes(event, 2), meaning=f"{schema.label}: whether it came")
            return Column(time, meaning, low=0, high=outcome.ends[-1]), came
        case Segmentation():
            return ()
    assert_never(outcome)


def asked_schema(query: Query, schema: Schema, outcome: OutcomeKind) -> Schema:
    """Of the columns that a query may read: its task's, or those of predictions."""
    if query.scored is not None:
        return scored_schema(schema, outcome)
    return records_schema(schema, outcome)


def find(schema: Schema, name: str) -> Column:
    """The column of that name. Raises WardroundError(REFUSED_STUDY) suggesting the nearest."""
    known = columns(schema)
    if name not in known:
        message = f"The task has no column {name!r}."
        raise unknown_name(Code.REFUSED_STUDY, message, name, known, "Its columns")
    return known[name]


def check(query: Query, schema: Schema) -> None:
    """Raises WardroundError(REFUSED_STUDY) naming the first thing that the schema lacks."""
    for condition in query.conditions:
        for leaf in leaves(condition):
            _check_leaf(leaf, find(schema, leaf.column))
    for statistic in query.statistics:
        match statistic:
            case Mean():
                require_kind(find(schema, statistic.column), "number")
            case Cells():
                for axis in statistic.axes:
                    _check_axis(axis, schema)
            case Differing():
                _check_axis(statistic.axis, schema)
            case never:
                assert_never(never)


def _check_leaf(leaf: Leaf, column: Column) -> None:
    match leaf:
        case Comparison():
            require_kind(column, "number")
        case IsOneOf():
            require_kind(column, "category")
            for category in leaf.categories:
                require_category(column, category)
        case IsMissing():
            pass
        case never:
            assert_never(never)


def _check_axis(axis: Axis, schema: Schema) -> None:
    match axis:
        case Bins():
            require_kind(find(schema, axis.column), "number")
        case Categories():
            column = find(schema, axis.column)
            require_kind(column, "category")
            if axis.categories != categories(column):
                raise WardroundError(
                    Code.REFUSED_STUDY,
                    f"The query counts other categories of {column.name} than the task has.",
                    remedy=f"They are: {', '.join(categories(column))}.",
                )
        case ConditionAxis():
            pass  # its condition is one of the query's
        case never:
            assert_never(never)


def require_kind(column: Column, kind: str) -> None:
    """Raises WardroundError(REFUSED_STUDY) where a number is asked of categories, or vice versa."""
    if column.kind != kind:
        usable = {
            "number": f"Compare it with one of: {', '.join(categories(column))}.",
            "category": f"Compare it with a number ({column.unit}), or give bins.",
        }
        raise WardroundError(
            Code.REFUSED_STUDY,
            f"The query takes the {column.kind} column {column.name} for a {kind} column.",
            remedy=usable[kind],
        )


def require_category(column: Column, category: str) -> None:
    """Raises WardroundError(REFUSED_STUDY) unless the column has this category."""
    known = categories(column)
    if category not in known:
        message = f"Column {column.name} has no category {category!r}."
        raise unknown_name(Code.REFUSED_STUDY, message, category, known, column.meaning)
