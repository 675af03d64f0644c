"""Analyses that clinical papers report, each a question whose tables are read in its own way.

    question = survival(Question.about("my_task"), "days:12", "died = 1", by="sex")
    ask(question, Price(epsilon=1)).analysis

All that a hospital counts are cells of one table (a table one: of one for each variable), so the
costs and rules are those of any query.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

from launch.queries.question import Question
from protocol.errors import Code, WardroundError, unknown_name
from protocol.study.analysis import Family, Hazards, Regression, Survival, TableOne
from protocol.study.query import Axis, Bins, Cells, ConditionAxis
from tasks import query_schema

VARIABLE_BINS, TIME_BINS, FACTOR_BINS, OUTCOME_BINS, NUMBER_BINS = 20, 12, 3, 16, 8
"""Of number columns, where an axis does not say: in a table one, of time, of a factor, of a
gaussian outcome, of what enters as a number. More bins are finer, and add more noise."""


def table_one(question: Question, variables: Sequence[str], by: str = "") -> Question:
    """Patients, means, quartiles, shares and missing values of these columns, with `by` for each
    group, and then with standardised differences.

    variables, by: as `Question.axis` reads them. Raises WardroundError as it does.
    """
    if not variables:
        raise _unfit("A table one is of variables.", "Name columns, such as --by age,chol.")
    groups = (question.axis(by),) if by else ()
    question = question.of(Cells(name="patients", axes=groups))
    for text in variables:
        axis = question.axis(text, VARIABLE_BINS)
        if axis in groups:
            raise _unfit(f"{text!r} is the group.", "Leave it out of the variables.")
        question = question.of(Cells(name=_name(axis), axes=(*groups, axis)))
    titled = question.title or f"Table one: {question.task.name}"
    return replace(question, analysis=TableOne(grouped=bool(groups)), title=titled)


def survival(question: Question, time: str, event: str, by: str = "", strata: str = "") -> Question:
    """Kaplan-Meier curves, numbers at risk, median and restricted mean; with `by` for each group,
    and then with a log-rank test, within `strata` if wanted.

    time: a number column, the time until the event or until the last visit, with public intervals
    (`days:12`, `days:0/182/365/730`); event: a condition that holds where it has happened.
    Raises WardroundError: CONFIGURATION, REFUSED_STUDY.
    """
    happened, until = _event_and_time(question, event, time)
    if strata and not by:
        raise _unfit("Strata are of a test between groups.", "Give the groups too, or no strata.")
    between = tuple(question.axis(text) for text in (by, strata) if text)
    axes = (*between, happened, until)
    question = question.of(Cells(name=f"{until.column} until {happened.column}"[:120], axes=axes))
    titled = question.title or f"Survival: {question.task.name}"
    analysis = Survival(grouped=bool(by), stratified=bool(strata))
    return replace(question, analysis=analysis, title=titled)


def cox(
    question: Question,
    time: str,
    event: str,
    factors: Sequence[str],
    references: Mapping[str, str] | None = None,
) -> Question:
    """Proportional hazards: hazard ratios of factors, from public intervals of time.

    time, event: as in `survival`; factors, references: as in `glm`. Raises as `survival`.
    """
    happened, until = _event_and_time(question, event, time)
    axes, chosen, products = _factors(question, factors, references or {}, 6)
    _require_apart(axes, (happened, until))
    name = f"{until.column} until {happened.column} by factors"
    question = question.of(Cells(name=name[:120], axes=(*axes, happened, until)))
    titled = question.title or f"Proportional hazards: {question.task.name}"
    analysis = Hazards(references=chosen, interactions=products)
    return replace(question, analysis=analysis, title=titled)


def glm(
    question: Question,
    outcome: str,
    factors: Sequence[str],
    family: Family = "binomial",
    references: Mapping[str, str] | None = None,
    *,
    numbers: Sequence[str] = (),
    offset: str = "",
    weights: str = "",
) -> Question:
    """A generalised linear model: logistic, linear or Poisson regression on factors and numbers.

    outcome: a condition (binomial), a number column, for its middle of bins (gaussian) or as whole
    numbers (poisson). factors: columns or conditions; a number column is one of bins (`age:45/65`);
    `sex * arm` is both and their interaction. numbers: number columns in bins that enter as a
    number (`age:8`). offset, weights: number columns in bins, for what their bins count as.
    references: column or condition -> the level that others are compared with; otherwise the
    first, of a condition "no". Raises WardroundError: CONFIGURATION, REFUSED_STUDY.
    """
    named = _terms(factors)[0] if factors else ()
    plain = [text for text in numbers if text not in named]
    beside = tuple(_in_bins(question, text) for text in (offset, weights) if text)
    axes, chosen, products = _factors(
        question, (*factors, *plain), references or {}, 7 - len(beside), numbers
    )
    of = _outcome(question, outcome, family)
    _require_apart(axes, (of,))
    played = [axis.column for axis in (*axes, *beside, of)]
    if len(set(played)) < len(played):
        raise _unfit("Offset, weights, factors and outcome are different columns.", "Name others.")
    name = f"{of.column} by factors"
    question = question.of(Cells(name=name[:120], axes=(*axes, *beside, of)))
    titled = question.title or f"Regression: {question.task.name}"
    marked = {_in_bins(question, text).column for text in numbers}
    analysis = Regression(
        family=family,
        references=chosen,
        interactions=products,
        numbers=tuple(at for at, axis in enumerate(axes) if axis.column in marked),
        offset=bool(offset),
        weighted=bool(weights),
    )
    return replace(question, analysis=analysis, title=titled)


def _in_bins(question: Question, text: str) -> Bins:
    axis = question.axis(text, NUMBER_BINS)
    if not isinstance(axis, Bins):
        raise _unfit(f"{text!r} is no number column.", "Give it as a factor.")
    return axis


def _event_and_time(question: Question, event: str, time: str) -> tuple[ConditionAxis, Bins]:
    happened, until = question.axis(event), question.axis(time, TIME_BINS)
    if not isinstance(until, Bins):
        raise _unfit(f"{time!r} is no time.", "Take a number column, such as days:12.")
    if not isinstance(happened, ConditionAxis):
        raise _unfit(f"{event!r} is no condition.", "For example: 'died = 1'.")
    return happened, until.model_copy(update={"outside": True})


def _factors(
    question: Question,
    factors: Sequence[str],
    references: Mapping[str, str],
    most: int,
    numbers: Sequence[str] = (),
) -> tuple[tuple[Axis, ...], tuple[str, ...], tuple[tuple[int, ...], ...]]:
    """Their axes, of each the level that others are compared with, and which interact."""
    texts, products = _terms(factors)
    axes = tuple(
        _in_bins(question, text) if text in numbers else question.axis(text, FACTOR_BINS)
        for text in texts
    )
    if not 1 <= len(axes) <= most or len({axis.column for axis in axes}) < len(axes):
        raise _unfit(f"The model has 1 to {most} different factors.", "Name others, or fewer.")
    wanted = dict(references)
    chosen = tuple(_reference(axis, wanted.pop(axis.column, None)) for axis in axes)
    for name in wanted:
        known = [axis.column for axis in axes]
        message = f"No factor is called {name!r}."
        raise unknown_name(Code.CONFIGURATION, message, name, known, "The factors")
    return axes, chosen, products


def _terms(factors: Sequence[str]) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]:
    """The factors of `a`, `b * c`, and by their places all products of those that stand between
    stars."""
    crossed = [tuple(part.strip() for part in text.split("*")) for text in factors]
    for text, parts in zip(factors, crossed, strict=True):
        if len(set(parts)) < len(parts) or "" in parts:
            raise _unfit(f"{text!r} is no product of factors.", "For example: sex * arm.")
    alone = [parts[0] for parts in crossed if len(parts) == 1]
    texts = list(alone)
    for parts in crossed:
        texts += [part for part in parts if part not in texts]
    products = [
        tuple(sorted(texts.index(part) for part in chosen))
        for parts in crossed
        for size in range(2, len(parts) + 1)
        for chosen in combinations(parts, size)
    ]
    return tuple(texts), tuple(dict.fromkeys(products))


def _require_apart(factors: Sequence[Axis], outcomes: Sequence[Axis]) -> None:
    for outcome in outcomes:
        if outcome.column in {axis.column for axis in factors}:
            raise _unfit(f"{outcome.column} is outcome and factor.", "Leave it out of the factors.")


def _outcome(question: Question, text: str, family: Family) -> Axis:
    axis = question.axis(text, OUTCOME_BINS)
    if family == "binomial":
        if not isinstance(axis, ConditionAxis):
            raise _unfit(f"{text!r} is no condition.", "For example: --outcome 'died = 1'.")
        return axis
    if not isinstance(axis, Bins):
        raise _unfit(f"{text!r} is no number column.", "Or leave out --family: binomial.")
    if family == "poisson":
        column = query_schema.find(question.schema, axis.column)
        low, high = max(0, math.floor(column.low)), math.ceil(column.high)
        if high - low > 200:
            raise _unfit(f"{axis.column} has a range of more than 200.", "Take family gaussian.")
        return axis.model_copy(update={"edges": tuple(map(float, range(low, high + 2)))})
    return axis


def _reference(axis: Axis, wanted: str | None) -> str:
    levels = axis.labels[:-1]
    if wanted is None:
        return "no" if isinstance(axis, ConditionAxis) else levels[0]
    if wanted not in levels:
        message = f"{axis.column} has no level {wanted!r}."
        raise unknown_name(Code.CONFIGURATION, message, wanted, levels, "Its levels")
    return wanted


def _name(axis: Axis) -> str:
    return axis.column[:120]


def _unfit(message: str, remedy: str) -> WardroundError:
    return WardroundError(Code.CONFIGURATION, message, remedy=remedy)
