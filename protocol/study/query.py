"""A query: which statistics of which patients, with every cell fixed before any data is seen.

A query is a study without training: its one sum holds the query's cells instead of a score
histogram. In each statistic a patient counts once, by the first record (in the order of the site's
view) that meets the conditions of query and statistic, and adds `scale` to one cell, or `scale` in
all to the two cells of a mean. So one patient changes a statistic by at most `scale` in L1.

A query that compares sites sums answers of theirs instead: each adds noise of its own to what it
counts, and says of every column whether that differs from what all sites have released before.
"""

from __future__ import annotations

import math
from functools import cached_property
from itertools import accumulate, chain, pairwise
from typing import Annotated, Literal, Self, assert_never

from pydantic import Field, StringConstraints
from pydantic import model_validator as validator

from protocol.document import Document, added_field
from protocol.study.condition import Category, ColumnName, Condition, check_size, in_words, leaves

MAX_CELLS = 4096
Label = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,120}$")]
Edge = Annotated[float, Field(ge=-1e15, le=1e15)]
Quantile = Annotated[float, Field(gt=0, lt=1)]
StatisticKind = Literal["count", "histogram", "table", "mean"]
SharedNoise = Literal["laplace", "skellam"]


class Bins(Document):
    """A number column in bins: edges[i] <= value < edges[i + 1]; the last bin includes its end.

    A value outside goes to the nearest bin, or with `outside` to a cell "below" or "above".
    The last cell counts missing values.
    """

    kind: Literal["bins"] = "bins"
    column: ColumnName
    edges: Annotated[tuple[Edge, ...], Field(min_length=2, max_length=1025, strict=False)]
    outside: bool = False

    @validator(mode="after")
    def _rising(self) -> Self:
        if any(not low < high for low, high in pairwise(self.edges)):
            raise ValueError("edges must rise")
        return self

    @property
    def labels(self) -> tuple[str, ...]:
        text = [f"{edge:.6g}" for edge in self.edges]
        inner = [f"{low} to {high}" for low, high in pairwise(text)]
        if self.outside:
            inner = [f"below {text[0]}", *inner, f"above {text[-1]}"]
        elif len(inner) == 1:
            inner = ["any value"]
        else:
            inner[0], inner[-1] = f"under {text[1]}", f"{text[-2]} or more"
        return (*inner, "missing")


class Categories(Document):
    """A category column: one cell for each category of the task, and one for missing values."""

    kind: Literal["categories"] = "categories"
    column: ColumnName
    categories: Annotated[tuple[Category, ...], Field(min_length=1, max_length=1000, strict=False)]

    @property
    def labels(self) -> tuple[str, ...]:
        return (*self.categories, "missing")


class ConditionAxis(Document):
    """Whether a condition holds: yes, no, or unknown because a value is missing."""

    kind: Literal["holds"] = "holds"
    condition: Condition

    @property
    def column(self) -> str:
        return in_words(self.condition)

    @property
    def labels(self) -> tuple[str, ...]:
        return ("yes", "no", "unknown")


Axis = Annotated[Bins | Categories | ConditionAxis, Field(discriminator="kind")]


def _conditions(axis: Axis) -> tuple[Condition, ...]:
    """The condition that an axis counts by; none where it counts by a column."""
    match axis:
        case Bins() | Categories():
            return ()
        case ConditionAxis():
            return (axis.condition,)
    assert_never(axis)


class Cells(Document):
    """Patients by cell of the axes' product: no axis is a count, one a histogram, more a table.

    `where`: besides the query's own condition. `quantiles`: read off one axis of bins.
    """

    kind: Literal["cells"] = "cells"
    name: Label
    where: Condition | None = None
    axes: Annotated[tuple[Axis, ...], Field(max_length=8, strict=False)] = ()
    quantiles: Annotated[tuple[Quantile, ...], Field(max_length=20, strict=False)] = ()

    @validator(mode="after")
    def _consistent(self) -> Self:
        if self.quantiles and not (len(self.axes) == 1 and isinstance(self.axes[0], Bins)):
            raise ValueError("quantiles are read off one axis of bins")
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(axis.labels) for axis in self.axes)

    @property
    def cells(self) -> int:
        return math.prod(self.shape)

    @property
    def asks(self) -> StatisticKind:
        """The statistic's name in a site's rules."""
        if not self.axes:
            return "count"
        return "histogram" if len(self.axes) == 1 else "table"

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it counts by."""
        return tuple(axis.column for axis in self.axes if not _conditions(axis))

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The conditions that it counts by."""
        return tuple(condition for axis in self.axes for condition in _conditions(axis))


class Mean(Document):
    """The mean of a number column clipped to [low, high], over the records that have a value.

    A value at t in [0, 1] of the range adds t to the first cell and 1 - t to the second, in units
    of `scale`: their sum is the number of patients.
    """

    kind: Literal["mean"] = "mean"
    name: Label
    where: Condition | None = None
    column: ColumnName
    low: Edge
    high: Edge

    @validator(mode="after")
    def _range(self) -> Self:
        if not self.low < self.high:
            raise ValueError("low must be below high")
        return self

    @property
    def cells(self) -> int:
        return 2

    @property
    def asks(self) -> StatisticKind:
        return "mean"

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    @property
    def conditions(self) -> tuple[Condition, ...]:
        return ()


Number = Annotated[float, Field(ge=-1e12, le=1e12)]
SITES_THAT = ("differ", "do not differ", "cannot tell")
"""What a site can say of a column, and so the first cells of a statistic that compares."""
FIGURE_UNIT, LARGEST_FIGURE = 1024, 2**50
"""Of what a site that is compared adds to the further cells: integers for each unit, and the
largest one: the sums of 4,096 sites fit into words of 64 bits."""


class Reference(Document):
    """A histogram that was released before, of the cells of one table: counts in patients, noised
    (some may be below 0), and the variance of the noise of each."""

    counts: Annotated[tuple[Number, ...], Field(min_length=2, max_length=1026, strict=False)]
    variances: Annotated[tuple[Number, ...], Field(min_length=2, max_length=1026, strict=False)]

    @validator(mode="after")
    def _alike(self) -> Self:
        if len(self.counts) != len(self.variances) or min(self.variances) < 0:
            raise ValueError("each count of a reference has a variance, of 0 or more")
        return self


class Differing(Document):
    """How many sites differ from all together in one column by more than noise, and how far they
    lie from one another. A site counts its patients along `axis`, adds noise that suffices by
    itself, and compares with what was `released` over all sites. It adds `scale` to one cell of
    `SITES_THAT`, and its figures (`protocol.statistics.harmonisation.between_sites`) to the further
    ones: two of the site, then three of each group of cells. `groups`: that of each label."""

    kind: Literal["differing"] = "differing"
    name: Label
    where: Condition | None = None
    axis: Axis
    released: Reference
    groups: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(max_length=1026, strict=False)]

    @validator(mode="after")
    def _same_cells(self) -> Self:
        if not len(self.released.counts) == len(self.groups) == len(self.axis.labels):
            raise ValueError("what was released has as many cells as the axis, each in a group")
        if not 2 <= len(set(self.groups)) == max(self.groups) + 1:
            raise ValueError("groups are numbered from 0, without a gap, and are two or more")
        return self

    @property
    def groups_compared(self) -> int:
        return max(self.groups) + 1

    @property
    def cells(self) -> int:
        return len(SITES_THAT) + 2 + 3 * self.groups_compared

    @property
    def asks(self) -> StatisticKind:
        return "histogram"

    @property
    def columns(self) -> tuple[str, ...]:
        """The column that it counts by."""
        return () if self.conditions else (self.axis.column,)

    @property
    def conditions(self) -> tuple[Condition, ...]:
        return _conditions(self.axis)


Statistic = Annotated[Cells | Mean | Differing, Field(discriminator="kind")]
Month = Annotated[str, StringConstraints(pattern=r"^\d{4}-(0[1-9]|1[0-2])$")]


class Scored(Document):
    """Of whom a question asks that is about a released model: the patients whom the site scored
    with it in the months from `since` to `until` (UTC), both included, each by the first of these
    predictions. model: digest of the model's bundle (`protocol.models.bundle`)."""

    model: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    since: Month
    until: Month

    @validator(mode="after")
    def _in_order(self) -> Self:
        if self.until < self.since:
            raise ValueError("the period ends before it begins")
        return self


class Query(Document):
    """Statistics over one cohort. `least_count`: smaller counts are hidden. `mechanism`: the noise
    that sites share, discrete Laplace (pure epsilon, best for few statistics) or Skellam. Where
    sites are compared, each adds all of it to its own counts."""

    where: Condition | None = None
    statistics: Annotated[tuple[Statistic, ...], Field(min_length=1, max_length=200, strict=False)]
    mechanism: SharedNoise = "laplace"
    least_count: Annotated[int, Field(ge=0, le=10**6)] = 10
    scored: Scored | None = added_field(None)
    """Whose predictions are counted, and when they were made; None: records of the task's view."""

    @validator(mode="after")
    def _bounded(self) -> Self:
        if self.cells > MAX_CELLS:
            raise ValueError(f"a query may have {MAX_CELLS} cells, not {self.cells}")
        if len({statistic.name for statistic in self.statistics}) < len(self.statistics):
            raise ValueError("each statistic needs a name of its own")
        for condition in self.conditions:
            check_size(condition)
        if self.compares_sites and not all(isinstance(s, Differing) for s in self.statistics):
            raise ValueError("a query that compares sites asks nothing else")
        return self

    @property
    def compares_sites(self) -> bool:
        """Whether sites say how they differ: then each has noise of its own, and the sum of what
        they say has none."""
        return any(isinstance(statistic, Differing) for statistic in self.statistics)

    @cached_property
    def cells(self) -> int:
        """Cells of all statistics: the length of the sum's section."""
        return sum(statistic.cells for statistic in self.statistics)

    @property
    def largest(self) -> int:
        """Cells of the largest statistic, or of the largest histogram that a site compares."""
        return max(
            len(one.axis.labels) if isinstance(one, Differing) else one.cells
            for one in self.statistics
        )

    @property
    def slices(self) -> tuple[slice, ...]:
        """The slice of the section that each statistic takes."""
        edges = accumulate((statistic.cells for statistic in self.statistics), initial=0)
        return tuple(slice(start, end) for start, end in pairwise(edges))

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """Every condition in it."""
        own = ((statistic.where, *statistic.conditions) for statistic in self.statistics)
        return tuple(one for one in chain((self.where,), *own) if one is not None)

    @property
    def asks(self) -> tuple[StatisticKind, ...]:
        """The statistics that a site's rules must allow."""
        return tuple(sorted({statistic.asks for statistic in self.statistics}))

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that it reads."""
        compared = {leaf.column for condition in self.conditions for leaf in leaves(condition)}
        return tuple(sorted(compared.union(*(one.columns for one in self.statistics))))
