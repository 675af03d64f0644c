"""An analysis: what the tables of a query are read as, once they are opened.

A site counts the cells of an analysis as those of any query, by the same rules and for the same
epsilon; all that is read from them is post-processing. So an analysis only says which axis of
which table plays which part.
"""

from __future__ import annotations

from typing import Annotated, Literal, assert_never

from pydantic import Field

from protocol.document import Document
from protocol.study.query import Bins, Cells, Query

Family = Literal["binomial", "gaussian", "poisson"]


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
    the label that the others are compared with."""

    kind: Literal["regression"] = "regression"
    family: Family = "binomial"
    references: Annotated[tuple[str, ...], Field(min_length=1, max_length=7, strict=False)]


Analysis = Annotated[TableOne | Survival | Regression, Field(discriminator="kind")]


def check(analysis: Analysis, query: Query) -> None:
    """Raises ValueError where the query's tables cannot be read so."""
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
            if len(tables) != 1 or len(axes) != wanted:
                raise ValueError(f"a survival analysis is of one table with {wanted} axes")
            event, time = axes[-2:]
            if event.kind != "holds" or not (isinstance(time, Bins) and time.outside):
                raise ValueError("a survival table ends with the event and with bins of time")
        case Regression():
            if len(tables) != 1 or len(axes) != 1 + len(analysis.references):
                raise ValueError("a regression has one table: a reference each, and the outcome")
            for axis, reference in zip(axes, analysis.references, strict=False):
                if reference not in axis.labels[:-1]:
                    raise ValueError(f"{axis.column} has no level {reference}")
            outcome = {"binomial": "holds", "gaussian": "bins", "poisson": "bins"}
            if axes[-1].kind != outcome[analysis.family]:
                raise ValueError("the outcome is a condition where binomial, else bins")
            if analysis.family == "poisson" and isinstance(axes[-1], Bins):
                edges = axes[-1].edges
                if list(edges) != [edges[0] + step for step in range(len(edges))]:
                    raise ValueError("a poisson outcome is counted in bins of one each")
        case never:
            assert_never(never)
