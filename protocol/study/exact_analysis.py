"""An exact analysis: what is read off sums without noise, which nobody can steer.

Everything is fixed here, before the first sum: model, covariates, row set, number of iterates,
range of coefficients. The fit begins at 0, and each iterate follows from the opened sums by integer
arithmetic (`protocol.exact`), at every site by itself: a coordinator chooses nothing on the way.
Survival curves take one sum, of counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import Annotated, Literal, Self, assert_never

from pydantic import Field
from pydantic import model_validator as validator

from protocol.document import Document
from protocol.study.condition import AllOf, ColumnName, Condition, IsMissing, Not, leaves
from protocol.study.query import Axis, Bins, Categories, Cells, ConditionAxis, Edge, Label, Query

ExactModel = Literal["gaussian", "binomial", "poisson", "cox"]
MAX_RANGE = 1000.0
MAX_ITERATES, MAX_COEFFICIENTS, LEAST_COUNT, MAX_SITES = 15, 64, 5, 50
"""Of one study. A query's `least_count` is LEAST_COUNT or more where an exact analysis follows."""
EXACT_TITLE = "exact: only where all participants are honest"
"""What the title of every such study says."""
HONEST = (
    "Exact sums protect patients only where all sites are honest: one that lies about its sums can "
    "steer the next iterate. Every site sees the pooled sums, and so everyone's minus its own; no "
    "epsilon covers them."
)
HONEST_COUNTS = (
    "Exact counts protect patients only where all sites are honest: every site sees the pooled "
    "counts, and so everyone's minus its own; no epsilon covers them."
)


def honest(analysis: AnyExact) -> str:
    """What every report of an exact analysis says of its sums. Counts have no next iterate."""
    return HONEST_COUNTS if isinstance(analysis, ExactSurvival) else HONEST


TOTALS = ("deviance", "log_likelihood", "patients", "groups")
"""What stands behind the derivatives in each sum; groups: intercepts profiled out, or events of
Cox's model."""
COX_TOTALS = (*TOTALS, "concordant", "pairs", "errors", "errors_without")
"""Of Cox's model: pairs of patients in the order of their risks, and all; squared errors of the
survival that the model states, and of the Kaplan-Meier curve (`client.cohorts.exact_cox`)."""


class ScaledColumn(Document):
    """A column in its public range, outside of which values are cut to its ends. In the arithmetic
    it lies between -1 and 1."""

    column: ColumnName
    low: Edge
    high: Edge

    @validator(mode="after")
    def _range(self) -> Self:
        if not self.low < self.high:
            raise ValueError("low must be below high")
        return self

    @property
    def unit(self) -> float:
        """Units of the column per unit of the arithmetic. Nothing is subtracted, so that products
        of columns are those of the columns' own units."""
        return max(abs(self.low), abs(self.high))


class NumberCovariate(ScaledColumn):
    """A number column."""

    kind: Literal["number"] = "number"

    @property
    def names(self) -> tuple[str, ...]:
        return (self.column,)

    @property
    def scales(self) -> tuple[float, ...]:
        return (self.unit,)


class FactorCovariate(Document):
    """Categories, a condition or bins: a 0/1 column for each level but the reference."""

    kind: Literal["factor"] = "factor"
    axis: Axis
    reference: Label

    @validator(mode="after")
    def _reference_is_a_level(self) -> Self:
        if self.reference not in self.levels:
            raise ValueError(f"{self.axis.column} has no level {self.reference}")
        return self

    @property
    def levels(self) -> tuple[str, ...]:
        """Those of known values, the reference among them."""
        return self.axis.labels[:-1]

    @property
    def names(self) -> tuple[str, ...]:
        match self.axis:
            case ConditionAxis():
                negated = self.reference == "yes"
                return (f"not ({self.axis.column})" if negated else self.axis.column,)
            case Bins() | Categories():
                rest = (level for level in self.levels if level != self.reference)
                return tuple(f"{self.axis.column}: {level}" for level in rest)
        assert_never(self.axis)

    @property
    def scales(self) -> tuple[float, ...]:
        return (1.0,) * len(self.names)


Covariate = Annotated[NumberCovariate | FactorCovariate, Field(discriminator="kind")]


class NumberOutcome(ScaledColumn):
    """The outcome of a gaussian model, or of a Poisson model as counts."""

    kind: Literal["number"] = "number"


class ConditionOutcome(Document):
    """The outcome of a binomial model: whether a condition holds."""

    kind: Literal["holds"] = "holds"
    axis: ConditionAxis


class TimeOutcome(Document):
    """Time in public intervals until an event or until the last visit."""

    kind: Literal["time"] = "time"
    event: ConditionAxis
    time: Bins

    @validator(mode="after")
    def _outside(self) -> Self:
        if not self.time.outside:
            raise ValueError("times outside of the intervals are cells of their own")
        return self


Outcome = Annotated[NumberOutcome | ConditionOutcome | TimeOutcome, Field(discriminator="kind")]


class ExactAnalysis(Document):
    """One model of one row set.

    terms: each a product of covariates, by their places: (0,) is a main effect, (0, 2) an
    interaction. Each site has an intercept of its own for each level of `strata`, which it takes
    out of its sums (profiled; of a Cox model, baseline hazards), so that none is ever summed.
    offset: added to the linear predictor, in the column's own units. weights: prior weights, as R's
    `glm` and `coxph` have them; 0 and less is left out. ridge: half of it times the squared
    coefficients, in the arithmetic's units, is subtracted from the log-likelihood.
    coefficient_range: in these units; an iterate outside of it ends the study. fraction_bits b:
    sums are whole multiples of 2^-b.
    """

    model: ExactModel
    outcome: Outcome
    covariates: Annotated[
        tuple[Covariate, ...], Field(min_length=1, max_length=MAX_COEFFICIENTS, strict=False)
    ]
    terms: Annotated[
        tuple[tuple[Annotated[int, Field(ge=0)], ...], ...],
        Field(min_length=1, max_length=MAX_COEFFICIENTS, strict=False),
    ]
    strata: Axis | None = None
    offset: NumberCovariate | None = None
    weights: NumberCovariate | None = None
    ridge: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    iterates: Annotated[int, Field(ge=1, le=MAX_ITERATES)] = 12
    coefficient_range: Annotated[float, Field(gt=0, le=MAX_RANGE)] = 100.0
    fraction_bits: Annotated[int, Field(ge=8, le=48)]

    @validator(mode="after")
    def _consistent(self) -> Self:
        wanted = {
            "gaussian": NumberOutcome,
            "poisson": NumberOutcome,
            "binomial": ConditionOutcome,
            "cox": TimeOutcome,
        }[self.model]
        if not isinstance(self.outcome, wanted):
            raise ValueError(f"a {self.model} model has another kind of outcome")
        seen = set[tuple[int, ...]]()
        for term in self.terms:
            if not term or tuple(sorted(set(term))) != term or term in seen:
                raise ValueError("a term names each covariate once, in order, and stands once")
            if term[-1] >= len(self.covariates):
                raise ValueError("a term names a covariate that is not there")
            seen.add(term)
        if self.coefficients > MAX_COEFFICIENTS:
            raise ValueError(f"a model may have {MAX_COEFFICIENTS} coefficients")
        if self.weights is not None and not self.weights.high > 0:
            raise ValueError("weights are above 0")
        return self

    @property
    def coefficients(self) -> int:
        """P."""
        return len(self.names)

    @property
    def names(self) -> tuple[str, ...]:
        """(P,) of the coefficients."""
        return tuple(
            " : ".join(parts)
            for term in self.terms
            for parts in product(*(self.covariates[place].names for place in term))
        )

    @property
    def scales(self) -> tuple[float, ...]:
        """(P,) what a coefficient in the arithmetic's units is divided by for the columns' own."""
        return tuple(
            math.prod(parts)
            for term in self.terms
            for parts in product(*(self.covariates[place].scales for place in term))
        )

    @property
    def triangle(self) -> int:
        """Numbers of a symmetric (P, P) matrix."""
        return self.coefficients * (self.coefficients + 1) // 2

    @property
    def cells(self) -> int:
        """Numbers of one sum: gradient, information, outer products of scores, totals."""
        totals = COX_TOTALS if self.model == "cox" else TOTALS
        return self.coefficients + 2 * self.triangle + len(totals)

    def tested(self) -> tuple[Cells, ...]:
        """The tables that are counted with noise before the first exact sum, and of which no cell
        of known values may be below the least count: outcome, strata, factors by the outcome, pairs
        of factors that interact."""
        outcome = self._outcome_axes()
        factors = [one.axis for one in self.covariates if isinstance(one, FactorCovariate)]
        crossed = [
            tuple(one.axis for one in pair if isinstance(one, FactorCovariate))
            for pair in ([self.covariates[place] for place in term] for term in self.terms)
        ]
        axes: list[tuple[Axis, ...]] = [()]
        if self.model == "cox" and isinstance(self.outcome, TimeOutcome):
            axes.append((self.outcome.event, self.outcome.time))
        elif outcome:
            axes.append(outcome)
        axes += [(self.strata,)] if self.strata is not None else []
        axes += [(*outcome, factor) for factor in factors]
        axes += [pair for pair in crossed if len(pair) > 1]
        return tuple(
            Cells(name=f"tested {at}", axes=of) for at, of in enumerate(dict.fromkeys(axes))
        )

    def _outcome_axes(self) -> tuple[Axis, ...]:
        match self.outcome:
            case NumberOutcome():
                return ()
            case ConditionOutcome():
                return (self.outcome.axis,)
            case TimeOutcome():
                return (self.outcome.event,)
        assert_never(self.outcome)


class ExactSurvival(Document):
    """Events and departures of each group and stratum in each joined interval of time, in whole
    patients: what Kaplan-Meier curves and a log-rank test within strata are read off. Whoever is
    followed beyond the last interval counts as departing at its end, which changes neither."""

    model: Literal["survival"] = "survival"
    outcome: TimeOutcome
    groups: Axis | None = None
    strata: Axis | None = None

    @property
    def iterates(self) -> int:
        """Exact sums at most."""
        return 1

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(G, S, 2, J): groups, strata, events and departures, public intervals, of which those
        after the last joined one are 0."""
        groups, strata = (
            1 if axis is None else len(axis.labels) - 1 for axis in (self.groups, self.strata)
        )
        return groups, strata, 2, len(self.outcome.time.edges) - 1

    @property
    def cells(self) -> int:
        """Numbers of the sum."""
        return math.prod(self.shape)

    def tested(self) -> tuple[Cells, ...]:
        """As a model's: the patients, and the very cells that are summed exactly, by which
        intervals are joined until none is below the least count."""
        apart = tuple(axis for axis in (self.groups, self.strata) if axis is not None)
        return (
            Cells(name="tested 0", axes=()),
            Cells(name="tested 1", axes=(*apart, self.outcome.event, self.outcome.time)),
        )


AnyExact = Annotated[ExactAnalysis | ExactSurvival, Field(discriminator="model")]


def check_exact(analysis: AnyExact, query: Query, *, sites: int, least_sites: int) -> None:
    """Raises ValueError where a study's query does not count what the exact analysis takes."""
    if query.statistics != analysis.tested():
        raise ValueError("the query counts other cells than the exact analysis is tested by")
    parts = query.where.of if isinstance(query.where, AllOf) else (query.where,)
    if not set(complete(analysis)) <= set(parts):
        raise ValueError("the query's condition lets missing values into the exact analysis")
    if query.least_count < LEAST_COUNT:
        raise ValueError(f"the least count before exact sums is {LEAST_COUNT} or more")
    if not sites == least_sites <= MAX_SITES:
        raise ValueError(f"exact sums are of the whole roster, of {MAX_SITES} sites at most")


def fraction_bits(analysis: ExactAnalysis, patients: int, sites: int) -> int:
    """The finest b at which twice the declared patients of the largest site fit words of 64 bits:
    bounds are those of deviances and products of residuals, with 4 bits to spare."""
    value = 2.0
    if isinstance(analysis.outcome, NumberOutcome) and analysis.model == "poisson":
        value = max(value, abs(analysis.outcome.high))
    weight = max(1.0, analysis.weights.high if analysis.weights is not None else 1.0)
    bound = 2 * patients * sites * (value * weight) ** 2
    return max(8, min(48, 63 - 4 - math.ceil(math.log2(bound))))


def complete(analysis: AnyExact) -> tuple[Condition, ...]:
    """The conditions under which a record has every value that the analysis reads."""
    read = set(covariate_columns(analysis))
    for table in analysis.tested():
        read.update(table.columns)
        read.update(leaf.column for one in table.conditions for leaf in leaves(one))
    return tuple(Not(of=IsMissing(column=column)) for column in sorted(read))


def covariate_columns(analysis: AnyExact) -> Sequence[str]:
    """Number columns that the analysis reads beside those that its tables are counted by."""
    if isinstance(analysis, ExactSurvival):
        return ()
    read = [one.column for one in analysis.covariates if isinstance(one, NumberCovariate)]
    read += [one.column for one in (analysis.offset, analysis.weights) if one is not None]
    if isinstance(analysis.outcome, NumberOutcome):
        read.append(analysis.outcome.column)
    return read
