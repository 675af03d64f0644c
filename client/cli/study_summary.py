"""Summarises a study in plain words for the person who decides about it."""

from __future__ import annotations

from typing import assert_never

from client.config.policy import Policy
from client.governance.approvals import Approvals
from client.governance.exact_releases import planned_exactly
from protocol.errors import WardroundError
from protocol.privacy.epsilon_text import rounded_down, rounded_up
from protocol.privacy.events import noise_in_words
from protocol.privacy.query_noise import half_width
from protocol.privacy.releases import about_delta, assumption, planned_broken_epsilon
from protocol.study.algorithms import (
    DittoOptions,
    FedAvgOptions,
    FedBNOptions,
    FedProxOptions,
    ScaffoldOptions,
)
from protocol.study.analysis import Analysis, Drift, Hazards, Regression, Survival, TableOne
from protocol.study.condition import in_words
from protocol.study.query import Cells, Mean, Query, Statistic
from protocol.study.study import Study
from tasks.schema import Schema

_MAX_QUESTIONS = 40
"""Questions of a query that are shown."""


def summarise(
    approvals: Approvals, study: Study, schema: Schema | None = None
) -> list[tuple[str, str]]:
    """Returns (question, answer) pairs: who asks, why, about whom, how private, what it costs.

    schema: of the study's task, where that is installed.
    """
    return [
        ("Title", study.title),
        ("Who asks", study.contact),
        ("What for", study.purpose),
        ("Task", f"{study.task.name}, version {study.task.version}"),
        ("Which patients", _patients(study)),
        *(_columns(schema) if study.query is None else _questions(study.query)),
        *([] if study.analysis is None else [("Read as", _read_as(study.analysis))]),
        ("With whom", ", ".join(study.sites)),
        *([("Reserved until", f"{study.expires} (UTC)")] if study.expires else []),
        ("What leaves", _what_leaves(study)),
        ("How private", _how_private(study)),
        *([("Its delta", large)] if (large := about_delta(study)) else []),
        *([("What that assumes", assumption(study))] if study.privacy.epsilon else []),
        *_exact_sums(study, approvals.policy),
        *_what_stays(study),
        *_budget(study, approvals),
    ]


def _budget(study: Study, approvals: Approvals) -> list[tuple[str, str]]:
    policy = approvals.policy
    delta, cap, lines = policy.delta, policy.epsilon_lifetime, []
    try:
        if study.shares_noise:
            broken = planned_broken_epsilon(study, delta)
            lines.append(("If secure aggregation broke", f"epsilon {rounded_up(broken)} at most"))
        alone, total = approvals.check(study)
    except WardroundError as error:
        return [*lines, ("Why it cannot be accepted", str(error))]
    if alone:
        of = f" of {cap:g}" if cap is not None else ""
        left = f"; {rounded_down(cap - total)} would be left" if cap is not None else ""
        lines.append(
            (
                "What it costs",
                f"epsilon {rounded_up(alone)} at delta {delta:g} if all is used",
            )
        )
        lines.append(("Budget with it", f"epsilon {rounded_up(total)}{of} reserved{left}"))
    return lines


def _patients(study: Study) -> str:
    if study.query is not None:
        which = "all of the task's patients"
        if (scored := study.query.scored) is not None:
            which = (
                f"patients whom this site scored from {scored.since} to {scored.until} with the "
                f"model {scored.model[:12]}, what it said and what it was given"
            )
        if study.query.where is not None:
            which += f", those with a record where {in_words(study.query.where)}"
        return f"{which}; each counts once in a statistic, by his first such record"
    evaluation = study.evaluation
    match evaluation.split:
        case "column":
            return "the task's cohort; a column of it says who trains and who evaluates"
        case "date":
            return (
                f"the task's cohort: records before {evaluation.since} to train, those from then "
                "on to evaluate; the column `day` says which they are"
            )
        case "patients":
            share = evaluation.fraction
            return f"the task's cohort: {1 - share:.0%} of it to train, {share:.0%} to evaluate"
    assert_never(evaluation.split)


def _questions(query: Query) -> list[tuple[str, str]]:
    lines = [
        (f"Question {number}", _question(statistic))
        for number, statistic in enumerate(query.statistics, start=1)
    ]
    more = len(lines) - _MAX_QUESTIONS
    return [*lines[:_MAX_QUESTIONS], *([("More questions", str(more))] if more > 0 else [])]


def _read_as(analysis: Analysis) -> str:
    match analysis:
        case TableOne():
            return "a table one: means, quartiles, shares and missing values"
        case Survival():
            return "survival: Kaplan-Meier curves, median and mean times, log-rank test"
        case Regression():
            return f"a regression ({analysis.family}) with standard errors that know the noise"
        case Hazards():
            return "proportional hazards (Cox): hazard ratios with intervals that know the noise"
        case Drift():
            return "drift: whether these counts are still shared out as in a histogram from before"
    assert_never(analysis)


def _question(statistic: Statistic) -> str:
    among = f", where {in_words(statistic.where)}" if statistic.where is not None else ""
    match statistic:
        case Mean():
            return (
                f"{statistic.name}: the mean of {statistic.column}, clipped to "
                f"{statistic.low:g} to {statistic.high:g}{among}"
            )
        case Cells(axes=()):
            return f"{statistic.name}: how many{among}"
        case Cells(axes=axes):
            by = " and ".join(f"{axis.column} ({len(axis.labels)} cells)" for axis in axes)
            return f"{statistic.name}: how many by {by}{among}"
    assert_never(statistic)


def _columns(schema: Schema | None) -> list[tuple[str, str]]:
    if schema is None:
        return []
    columns = ", ".join(f"{c.name} ({c.meaning})" for c in schema.columns)
    return [("Which columns", f"{columns}; to learn {schema.label} ({schema.label_meaning})")]


def _what_leaves(study: Study) -> str:
    aggregation = study.aggregation
    if not aggregation.masked:
        rule = aggregation.robust
        then = f" and combines them by {rule.name}" if rule is not None else ""
        own = "this site's own updates, without secure aggregation"
        return f"{own}: the coordinator sees each{then}"
    return (
        f"masked numbers; only sums over {aggregation.least_sites} or more sites can be opened, "
        f"while no more than {aggregation.colluding_sites} collude with the coordinator"
    )


def _what_stays(study: Study) -> list[tuple[str, str]]:
    """What the study's algorithm makes at this site that never leaves it."""
    match study.optimisation.local:
        case FedAvgOptions() | FedProxOptions():
            return []
        case ScaffoldOptions():
            what = "a control variate, until the study ends"
        case FedBNOptions():
            what = "normalisation layers of this site's own, for its own use"
        case DittoOptions():
            what = "a model of this site's own, for its own use"
        case never:
            assert_never(never)
    return [("What stays here", what)]


def _exact_sums(study: Study, policy: Policy) -> list[tuple[str, str]]:
    planned = planned_exactly(study)
    if not planned:
        return []
    whose = "any one patient's record"
    if study.task.name in policy.public_data:
        whose += "; policy.public_data says that these are public or synthetic"
    return [
        (
            "Without noise",
            f"{planned} sums at most: an exact sum can show one patient. Whoever chooses the model "
            f"can read off a few of them {whose}",
        )
    ]


def _how_private(study: Study) -> str:
    privacy = study.privacy
    if study.query is not None:
        return (
            f"epsilon {privacy.epsilon:g} at delta {privacy.delta:g} for each patient; the sites "
            f"share {noise_in_words(study.query.mechanism)} noise, of which about 95% stays below "
            f"{half_width(study, len(study.roster)):.3g} patients in each of "
            f"{study.query.cells} cells; below {study.query.least_count} nothing is shown"
        )
    match privacy.traits.noise_source:
        case "nobody":
            if not study.evaluation.noised:
                return "not at all beyond the sum: no noise is added, and no epsilon covers anyone"
            return (
                "training not at all beyond the sum: no noise is added to it; evaluation alone "
                f"has epsilon {privacy.epsilon:g} at delta {privacy.delta:g}"
            )
        case "each_site":
            where = "each site adds all the noise"
        case "sites_together":
            where = "the sites share the noise"
            if not study.aggregation.masked:
                where = "each site's part of the noise suffices alone"
        case never:
            assert_never(never)
    text = (
        f"epsilon {privacy.epsilon:g} at delta {privacy.delta:g} for each patient; {where} "
        f"(multiplier {privacy.noise_multiplier:g}, {study.aggregation.attempts} attempts at most)"
    )
    if study.evaluation.exact:
        text += "; the patients who evaluate are not covered: their sums are exact"
    return text
