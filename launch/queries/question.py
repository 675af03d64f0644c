"""A question about a federation's patients: an immutable value to which statistics are added.

    question = Question.about("heart_disease", where="age >= 60")
    question = question.count().table("age", "sex")

A question knows no federation: `launch.queries.query_builder.build_query` makes the study that asks
it, `launch.queries.ask.ask` asks it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from pydantic import ValidationError

from launch.queries.condition_parser import parse
from protocol.errors import Code, WardroundError
from protocol.study.analysis import Analysis
from protocol.study.condition import Condition
from protocol.study.exact_analysis import AnyExact
from protocol.study.query import (
    Axis,
    Bins,
    Categories,
    Cells,
    ConditionAxis,
    Mean,
    Scored,
    Statistic,
)
from tasks import query_schema, registry
from tasks.base import Task
from tasks.schema import Column, Schema

BINS, FINE_BINS = 5, 32
"""Of a number column, where nothing else is asked for: shown as they are, or for quantiles."""
QUARTILES = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Question:
    """A cohort of a task, and statistics of it. Every method gives a longer question."""

    task: Task
    where: Condition | None = None
    statistics: tuple[Statistic, ...] = ()
    least_count: int = 10
    title: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    analysis: Analysis | None = None
    """What the statistics are read as (`launch.queries.analyses`, `launch.queries.drift`)."""
    exact: AnyExact | None = None
    """The model that is fitted to sums without noise once the statistics allow it
    (`launch.queries.exact_analyses`)."""
    scored: Scored | None = None
    """The model and the period whose predictions are counted, in place of the task's records."""

    @staticmethod
    def about(
        task: str, *, where: str = "", least_count: int = 10, title: str = "", **options: Any
    ) -> Question:
        """where: a condition as `launch.queries.condition_parser` reads it. options: of the task.

        Raises WardroundError: UNKNOWN_TASK, CONFIGURATION, REFUSED_STUDY for an unknown column.
        """
        loaded = registry.load(task, options)
        question = Question(loaded, None, (), least_count, title, options)
        return replace(question, where=question._condition(where))

    def count(self, name: str = "patients", *, where: str = "") -> Question:
        """How many patients."""
        return self.of(Cells(name=name, where=self._condition(where)))

    def histogram(self, axis: str, name: str = "", *, where: str = "") -> Question:
        """How many by a column: `age`, `age:8` (equal bins), `age:45/60/75` (edges), `sex`."""
        return self.table(axis, name=name, where=where)

    def table(self, *axes: str, name: str = "", where: str = "") -> Question:
        """How many by several columns or conditions together (one that is no column)."""
        made = tuple(self.axis(text) for text in axes)
        named = name or " by ".join(axis.column for axis in made)
        return self.of(Cells(name=named, where=self._condition(where), axes=made))

    def quantiles(
        self, axis: str, at: Sequence[float] = QUARTILES, name: str = "", *, where: str = ""
    ) -> Question:
        """Of a number column, read off bins of its public range (32, or as `axis` says)."""
        made = self.axis(axis, FINE_BINS)
        named = name or f"quantiles of {made.column}"
        condition = self._condition(where)
        return self.of(
            Cells(name=named, where=condition, axes=(made,), quantiles=tuple(map(float, at)))
        )

    def mean(self, column: str, name: str = "", *, where: str = "") -> Question:
        """Of a number column clipped to its public range, where it is not missing."""
        declared = query_schema.find(self.schema, column)
        query_schema.require_kind(declared, "number")
        return self.of(
            Mean(
                name=name or f"mean of {column}",
                where=self._condition(where),
                column=column,
                low=declared.low,
                high=declared.high,
            )
        )

    def axis(self, text: str, bins: int = BINS) -> Axis:
        """`column`, `column:8`, `column:45/60/75`, or a condition."""
        name, _, how = text.partition(":")
        known = query_schema.columns(self.schema)
        if name.strip() not in known and any(sign in text for sign in " <>=("):
            return ConditionAxis(condition=parse(text, self.schema))
        column = query_schema.find(self.schema, name.strip())
        if column.kind == "category":
            if how:
                raise _unfit(text, f"{column.name} has categories, not bins")
            return Categories(column=column.name, categories=query_schema.categories(column))
        return _made(text, column=column.name, edges=_edges(column, how, bins, text))

    @property
    def schema(self) -> Schema:
        """The columns that may be asked for: the task's, its label among them."""
        return query_schema.records_schema(self.task.schema, self.task.outcome)

    def _condition(self, text: str) -> Condition | None:
        return parse(text, self.schema) if text.strip() else None

    def of(self, statistic: Statistic) -> Question:
        """Any statistic, under a name of its own."""
        taken = {other.name for other in self.statistics}
        name, number = statistic.name, 2
        while name in taken:
            name, number = f"{statistic.name} ({number})", number + 1
        unique = statistic.model_copy(update={"name": name})
        return replace(self, statistics=(*self.statistics, unique))


def _edges(column: Column, how: str, bins: int, text: str) -> tuple[float, ...]:
    parts = [part.strip() for part in how.split("/")] if how.strip() else []
    try:
        if len(parts) <= 1:
            number = int(parts[0]) if parts else bins
            if not 1 <= number <= 1024:
                raise ValueError
            return tuple(
                float(f"{e:.10g}") for e in np.linspace(column.low, column.high, number + 1)
            )
        return tuple(float(part) for part in parts)
    except ValueError:
        raise _unfit(
            text, "after the colon stands a number of bins, or edges as 45/60/75"
        ) from None


def _made(text: str, **fields: Any) -> Bins:
    try:
        return Bins(**fields)
    except ValidationError as error:
        raise _unfit(text, str(error.errors()[0]["msg"])) from None


def _unfit(text: str, why: str) -> WardroundError:
    return WardroundError(
        Code.CONFIGURATION,
        f"{text!r} cannot be counted by: {why}.",
        remedy="For example: age, age:8, age:45/60/75, sex, or a condition such as 'chol > 240'.",
    )
