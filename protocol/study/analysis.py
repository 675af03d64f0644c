"""An analysis: what the tables of a query are read as, once they are opened.

A site counts the cells of an analysis as those of any query, by the same rules and for the same
epsilon; all that is read from them is post-processing. So an analysis only says which axis of
which table plays which part.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal, assert_never

from pydantic import Field

from protocol.document import Document, added_field
from protocol.study.query import Axis, Bins, Cells, ConditionAxis, Differing, Query, Reference

Family = Literal["binomial", "gaussian", "poisson"]
Interactions = Annotated[
    tuple[tuple[Annotated[int, Field(ge=0, le=6)], ...], ...],
    Field(max_length=64, strict=False),
]


class TableOne(Document):
    """The baseline table of a paper. The first table counts the patients, `grouped` or not; each
    further one is a variable, whose axis comes after that of the groups."""

    kind: Literal["table_one"] = "table_one"
    grouped: bool = False


class Survival(Document):
    """Kaplan-Meier curves and a log-rank test. One table, whose axes are the groups, where it is
    `grouped`, the strata of the test, where it is `stratified`, whether the event has happened, and
    the time until then or until the last visit, in bins with cells outside of them."""

    kind: Literal["survival"] = "survival"
    grouped: bool = False
    stratified: bool = False


class Regression(Document):
    """A generalised linear model with the family's usual link (logit, identity, log). One table,
    whose last axis is the outcome and whose other axes are factors. `references`: of each factor
    the label that the others are compared with. `interactions`: products of factors, by their
    places, in order. `numbers`: the places of those that are bins and enter as a number. Where
    there is an `offset`, and where the model is `weighted`, these are axes of bins behind the
    factors, in this order."""

    kind: Literal["regression"] = "regression"
    family: Family = "binomial"
    references: Annotated[tuple[str, ...], Field(min_length=1, max_length=7, strict=False)]
    interactions: Interactions = ()
    numbers: Annotated[tuple[int, ...], Field(max_length=7, strict=False)] = added_field(())
    offset: bool = added_field(False)
    weighted: bool = added_field(False)


class Hazards(Document):
    """Proportional hazards, as Cox's model has them. One table: factors, then whether the event has
    happened and the time until then or until the last visit, as in `Survival`. `references`,
    `interactions`: as in `Regression`."""

    kind: Literal["hazards"] = "hazards"
    references: Annotated[tuple[str, ...], Field(min_length=1, max_length=6, strict=False)]
    interactions: Interactions = ()


class Drift(Document):
    """Whether what a released model says, or what it is given, is still as it was. Each table has
    one axis, and a reference of the same cells."""

    kind: Literal["drift"] = "drift"
    references: Annotated[tuple[Reference, ...], Field(min_length=1, max_length=200, strict=False)]


class Harmonisation(Document):
    """Whether sites differ from one another, column by column, by more than noise explains. A query
    that compares sites, read by what they say and by the sums of their figures."""

    kind: Literal["harmonisation"] = "harmonisation"


Analysis = Annotated[
    TableOne | Survival | Regression | Hazards | Drift | Harmonisation,
    Field(discriminator="kind"),
]


def check(analysis: Analysis, query: Query) -> None:
    """Raises ValueError where the query's tables cannot be read so."""
    if isinstance(analysis, Harmonisation):
        if not all(isinstance(one, Differing) for one in query.statistics):
            raise ValueError("harmonisation is read off a query that compares sites")
        return
    tables = [one for one in query.statistics if isinstance(one, Cells)]
    if len(tables) < len(query.statistics):
        raise ValueError("an analysis is read off tables")
    axes = tables[0].axes
    match analysis:
        case TableOne():
            groups = axes[: int(analysis.grouped)]
            if len(axes) != int(analysis.grouped) or any(
                len(table.axes) != len(axes) + 1 or table.axes[: len(axes)] != groups
                for table in tables[1:]
            ):
                raise ValueError("each table of a table one is of the groups and one variable")
        case Survival():
            wanted = 2 + int(analysis.grouped) + int(analysis.stratified)
            _check_one_table(tables, wanted)
            _check_event_and_time(axes)
        case Hazards():
            _check_one_table(tables, 2 + len(analysis.references))
            _check_event_and_time(axes)
            _check_references(axes, analysis.references)
            _check_interactions(analysis.interactions, len(analysis.references))
        case Regression():
            beside = int(analysis.offset) + int(analysis.weighted)
            factors = len(analysis.references)
            _check_one_table(tables, factors + beside + 1)
            _check_references(axes, analysis.references)
            _check_interactions(analysis.interactions, factors)
            _check_numbers(axes, analysis.numbers, factors, beside)
            _check_outcome(axes[-1], analysis.family)
        case Drift():
            cells = [table.shape for table in tables]
            if cells != [(len(reference.counts),) for reference in analysis.references]:
                raise ValueError("drift is of tables of one axis, each with a reference as long")
        case never:
            assert_never(never)


def _check_one_table(tables: Sequence[Cells], axes: int) -> None:
    if len(tables) != 1 or len(tables[0].axes) != axes:
        raise ValueError(f"the analysis is of one table with {axes} axes")


def _check_event_and_time(axes: Sequence[Axis]) -> None:
    event, time = axes[-2:]
    if not isinstance(event, ConditionAxis) or not (isinstance(time, Bins) and time.outside):
        raise ValueError("a table of times ends with the event and with bins of time")


def _check_references(axes: Sequence[Axis], references: Sequence[str]) -> None:
    for axis, reference in zip(axes, references, strict=False):
        if reference not in axis.labels[:-1]:
            raise ValueError(f"{axis.column} has no level {reference}")


def _check_interactions(interactions: Interactions, factors: int) -> None:
    for term in interactions:
        if len(term) < 2 or tuple(sorted(set(term))) != term or term[-1] >= factors:
            raise ValueError("an interaction names two factors or more, each once and in order")
    if len(set(interactions)) < len(interactions):
        raise ValueError("each interaction stands once")


def _check_numbers(axes: Sequence[Axis], numbers: Sequence[int], factors: int, beside: int) -> None:
    if tuple(sorted(set(numbers))) != tuple(numbers) or not set(numbers) <= set(range(factors)):
        raise ValueError("numbers are places of factors, each once and in order")
    places = (*numbers, *range(factors, factors + beside))
    if not all(isinstance(axes[at], Bins) for at in places):
        raise ValueError("what enters as a number, an offset and weights are in bins")


def _check_outcome(axis: Axis, family: Family) -> None:
    match family:
        case "binomial":
            fits = isinstance(axis, ConditionAxis)
        case "gaussian":
            fits = isinstance(axis, Bins)
        case "poisson":
            fits = isinstance(axis, Bins) and all(
                high == low + 1 and low == int(low) for low, high in pairwise(axis.edges)
            )
        case never:
            assert_never(never)
    if not fits:
        raise ValueError(
            "a binomial outcome is a condition, a gaussian one is in bins, a poisson "
            "one in bins of a whole number each"
        )
