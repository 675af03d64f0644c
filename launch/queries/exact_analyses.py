"""Questions that are answered without noise: regressions, Cox's model, survival curves.

    question = exact_glm(Question.about("heart_disease"), "num = 1 ~ age + sex * exang")
    ask(question, Price(epsilon=1)).analysis

Each takes from every hospital's lifetime number of exact releases as many as it has iterates, and
protects patients only where all participants are honest (docs/statistics.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from launch.queries.formula import Formula, parse_formula
from launch.queries.question import Question
from protocol.document import first_fault
from protocol.errors import Code, WardroundError, unknown_name
from protocol.study.analysis import Family
from protocol.study.condition import AllOf, Condition
from protocol.study.exact_analysis import (
    AnyExact,
    ConditionOutcome,
    Covariate,
    ExactAnalysis,
    ExactSurvival,
    FactorCovariate,
    NumberCovariate,
    NumberOutcome,
    Outcome,
    TimeOutcome,
    complete,
)
from protocol.study.query import Axis, Bins, Categories, ConditionAxis
from tasks import query_schema

ITERATES = 12


def exact_glm(
    question: Question,
    formula: str,
    family: Family = "binomial",
    *,
    references: Mapping[str, str] | None = None,
    strata: str = "",
    weights: str = "",
    ridge: float = 0.0,
    iterates: int = ITERATES,
) -> Question:
    """A generalised linear model with the family's canonical link, as on pooled data with an
    intercept for each site and stratum.

    formula: as `launch.queries.formula` reads it; the outcome is a condition (binomial) or a number
    column (gaussian, poisson). references: column or condition -> the level that others are
    compared with. Raises WardroundError: CONFIGURATION, REFUSED_STUDY.
    """
    read = parse_formula(formula)
    outcome: Outcome
    if family == "binomial":
        axis = question.axis(read.outcome)
        if not isinstance(axis, ConditionAxis):
            raise _unfit(f"{read.outcome!r} is no condition.", "For example: num = 1 ~ age.")
        outcome = ConditionOutcome(axis=axis)
    else:
        low, high = _range(question, read.outcome)
        if family == "poisson" and low < 0:
            raise _unfit(f"{read.outcome} may be below 0.", "A Poisson outcome counts events.")
        outcome = NumberOutcome(column=read.outcome, low=low, high=high)
    fields: dict[str, Any] = {"model": family, "outcome": outcome, "ridge": ridge}
    fields |= _offset_and_weights(question, read, weights)
    kind = f"Regression: {question.task.name}"
    return _made(question, read, fields, references or {}, strata, iterates, kind)


def exact_cox(
    question: Question,
    time: str,
    event: str,
    formula: str,
    *,
    references: Mapping[str, str] | None = None,
    strata: str = "",
    weights: str = "",
    ridge: float = 0.0,
    iterates: int = ITERATES,
) -> Question:
    """Cox's proportional hazards, ties by Breslow within public intervals, baseline hazards of each
    site and stratum apart.

    time: a number column in public intervals (`days:12`, `days:0/182/365`); event: a condition;
    formula: the terms alone, `age + sex * arm + offset(known_risk)`. Raises as `exact_glm`.
    """
    read = parse_formula(f"time ~ {formula}")
    outcome = _time_outcome(question, time, event)
    fields: dict[str, Any] = {"model": "cox", "outcome": outcome, "ridge": ridge}
    fields |= _offset_and_weights(question, read, weights)
    kind = f"Hazard ratios: {question.task.name}"
    return _made(question, read, fields, references or {}, strata, iterates, kind)


def exact_survival(
    question: Question, time: str, event: str, by: str = "", strata: str = ""
) -> Question:
    """Kaplan-Meier curves of each group, with a log-rank test within strata: one sum of events and
    departures, in public intervals that are joined until each group has enough of both.

    time, event: as in `exact_cox`; by, strata: a column, bins or a condition. Raises as
    `exact_glm`.
    """
    outcome = _time_outcome(question, time, event)
    apart = [question.axis(text) for text in (by, strata) if text]
    columns = [axis.column for axis in (*apart, outcome.event, outcome.time)]
    if len(set(columns)) < len(columns):
        raise _unfit("Groups, strata, event and time are to be different.", "Name another column.")
    analysis = ExactSurvival(
        outcome=outcome,
        groups=apart[0] if by else None,
        strata=apart[-1] if strata else None,
    )
    return _asked(question, analysis, f"Survival: {question.task.name}")


def _time_outcome(question: Question, time: str, event: str) -> TimeOutcome:
    happened, until = question.axis(event), question.axis(time, 12)
    if not isinstance(happened, ConditionAxis):
        raise _unfit(f"{event!r} is no condition.", "For example: --event 'died = 1'.")
    if not isinstance(until, Bins):
        raise _unfit(f"{time!r} is no time.", "For example: --time days:0/182/365/730.")
    return TimeOutcome(event=happened, time=until.model_copy(update={"outside": True}))


def _made(
    question: Question,
    read: Formula,
    fields: Mapping[str, Any],
    references: Mapping[str, str],
    strata: str,
    iterates: int,
    kind: str,
) -> Question:
    covariates = tuple(_covariate(question, one, references) for one in read.factors)
    known = {_named(one) for one in covariates}
    for name in references.keys() - known:
        raise unknown_name(
            Code.CONFIGURATION, f"{name!r} is no factor.", name, sorted(known), "The terms are"
        )
    try:
        analysis = ExactAnalysis(
            **fields,
            covariates=covariates,
            terms=read.terms,
            strata=_stratum(question, strata) if strata else None,
            iterates=iterates,
            fraction_bits=8,
        )
    except ValidationError as error:
        where, what, _ = first_fault(error)
        raise _unfit(f"The analysis is not valid: {where}: {what}.", "Check its options.") from None
    return _asked(question, analysis, kind)


def _asked(question: Question, analysis: AnyExact, kind: str) -> Question:
    """Of the records in which every column that the analysis reads is known."""
    own = (question.where,) if question.where is not None else ()
    conditions: tuple[Condition, ...] = tuple(dict.fromkeys((*own, *complete(analysis))))
    cohort = conditions[0] if len(conditions) == 1 else AllOf(of=conditions)
    return replace(
        question,
        where=cohort,
        statistics=analysis.tested(),
        exact=analysis,
        title=question.title or kind,
    )


def _covariate(question: Question, text: str, references: Mapping[str, str]) -> Covariate:
    column = query_schema.columns(question.schema).get(text.strip())
    if column is not None and column.kind == "number":
        return NumberCovariate(column=column.name, low=column.low, high=column.high)
    axis = question.axis(text)
    wanted = references.get(axis.column, references.get(text.strip(), ""))
    levels: Sequence[str] = axis.labels[:-1]
    match axis:
        case ConditionAxis():
            usual = "no"
        case Bins() | Categories():
            usual = levels[0]
    if wanted and wanted not in levels:
        message = f"{axis.column} has no level {wanted!r}."
        raise unknown_name(Code.CONFIGURATION, message, wanted, levels, "Its levels are")
    return FactorCovariate(axis=axis, reference=wanted or usual)


def _named(covariate: Covariate) -> str:
    match covariate:
        case NumberCovariate():
            return covariate.column
        case FactorCovariate():
            return covariate.axis.column


def _offset_and_weights(question: Question, read: Formula, weights: str) -> dict[str, Any]:
    named = {"offset": read.offset, "weights": weights}
    return {name: _number(question, column) for name, column in named.items() if column}


def _stratum(question: Question, text: str) -> Axis:
    return question.axis(text)


def _range(question: Question, name: str) -> tuple[float, float]:
    column = query_schema.find(question.schema, name)
    query_schema.require_kind(column, "number")
    return column.low, column.high


def _number(question: Question, name: str) -> NumberCovariate:
    low, high = _range(question, name)
    return NumberCovariate(column=name, low=low, high=high)


def _unfit(message: str, remedy: str) -> WardroundError:
    return WardroundError(Code.CONFIGURATION, message, remedy=remedy)
