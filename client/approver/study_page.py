"""One page about a study, in plain words, for the person who decides about it.

A sentence stands in the code in English, with its values in braces; `client.approver.languages`
says it in another language. What people wrote (a title, a column's meaning, an error) stays as it
is.
"""

from __future__ import annotations

import math
from typing import assert_never

from client.approver.languages import Say, english
from client.config.known_permits import objection as permit_objection
from client.config.policy import Policy
from client.governance.approvals import Approvals
from client.governance.exact_releases import planned_exactly
from protocol.errors import WardroundError
from protocol.privacy.epsilon_text import rounded_down, rounded_up
from protocol.privacy.events import noise_in_words
from protocol.privacy.query_noise import half_width_of_counts
from protocol.privacy.releases import ASSUMPTION, about_delta, planned_broken_epsilon
from protocol.study.algorithms import (
    DittoOptions,
    FedAvgOptions,
    FedBNOptions,
    FedProxOptions,
    ScaffoldOptions,
)
from protocol.study.analysis import (
    Analysis,
    Drift,
    Harmonisation,
    Hazards,
    Regression,
    Survival,
    TableOne,
)
from protocol.study.condition import in_words
from protocol.study.exact_analysis import AnyExact, ExactSurvival, honest
from protocol.study.query import Cells, Differing, Mean, Query, Scored, Statistic
from protocol.study.study import Study
from protocol.study.subgroups import in_words as partition_in_words
from tasks.schema import Schema

_MAX_QUESTIONS = 40
"""Questions of a query that are shown."""
_MEANINGS = 15
"""Columns whose meaning is shown too: with more, the page would not be one."""

Lines = list[tuple[str, str]]


def summarise(
    approvals: Approvals, study: Study, schema: Schema | None = None, say: Say = english
) -> Lines:
    """Returns (question, answer) pairs: who asks, why, about whom, how private, what it costs.

    schema: of the study's task, where that is installed.
    """
    return [
        (say("Title"), study.title),
        (say("Who asks"), study.contact),
        (say("What for"), study.purpose),
        *_permit(study, approvals, say),
        (
            say("Task"),
            say("{task}, version {version}", task=study.task.name, version=study.task.version),
        ),
        (say("Which patients"), _patients(study, say)),
        *(_columns(schema, say) if study.query is None else _questions(study.query, say)),
        *([] if study.analysis is None else [(say("Read as"), _read_as(study.analysis, say))]),
        *([] if study.exact is None else [(say("Then fitted"), _fitted(study.exact, say))]),
        *_told_apart(study, say),
        (say("With whom"), ", ".join(study.sites)),
        *(
            [(say("Reserved until"), say("{day} (UTC)", day=study.expires))]
            if study.expires
            else []
        ),
        (say("What leaves"), _what_leaves(study, say)),
        (say("How private"), _how_private(study, say)),
        *_meaning(study, say),
        *([(say("Its delta"), large)] if (large := about_delta(study)) else []),
        *_assumption(study, say),
        *_started(study, say),
        *_exact_sums(study, approvals.policy, say),
        *_what_stays(study, say),
        *_budget(study, approvals, say),
    ]


def _permit(study: Study, approvals: Approvals, say: Say) -> Lines:
    permit, policy = study.permit, approvals.policy
    if permit is None:
        missing = say("none is stated, and policy.permits asks for one")
        return [(say("Permit"), missing)] if policy.permit_required else []
    objection = permit_objection(policy.permits, study, approvals.today)
    known = say("NOT confirmed by this hospital's own records (policy.permits)")
    if not objection:
        known = say("confirmed by this hospital's own records")
    stated = say(
        "{number}, until {day}; legal basis: {basis}; signed by {person}; {known}",
        number=permit.identifier,
        day=permit.expires,
        basis=permit.legal_basis,
        person=permit.person,
        known=known,
    )
    return [(say("Permit"), stated)]


def _started(study: Study, say: Say) -> Lines:
    """What was told of patients before, where training goes on from a released model."""
    start = study.start
    if start is None:
        return []
    told = say("no epsilon bounds what that model tells of its patients")
    if start.epsilon is not None and start.delta is not None:
        told = say(
            "that model may tell epsilon {epsilon} at delta {delta:g} of its patients; of a "
            "patient of both, the costs add up",
            epsilon=rounded_up(start.epsilon),
            delta=start.delta,
        )
    what = say("the model {model}, made by study {study}", model=start.model, study=start.study)
    return [(say("Training starts from"), f"{what}; {told}")]


def _budget(study: Study, approvals: Approvals, say: Say) -> Lines:
    policy = approvals.policy
    delta, cap, lines = policy.delta, policy.epsilon_lifetime, Lines()
    try:
        if study.shares_noise:
            broken = rounded_up(planned_broken_epsilon(study, delta))
            most = say("epsilon {epsilon} at most", epsilon=broken)
            lines.append((say("If secure aggregation broke"), most))
        alone, total = approvals.check(study)
    except WardroundError as error:
        return [*lines, (say("Why it cannot be accepted"), str(error))]
    if not alone:
        return lines
    cost = say(
        "epsilon {epsilon} at delta {delta:g} if all is used",
        epsilon=rounded_up(alone),
        delta=delta,
    )
    lines.append((say("What it costs"), cost))
    if cap is None:
        reserved = say("epsilon {epsilon} reserved", epsilon=rounded_up(total))
        return [*lines, (say("Budget with it"), reserved)]
    left = cap - total
    reserved = say(
        "epsilon {epsilon} of {cap:g} reserved; {left} would be left",
        epsilon=rounded_up(total),
        cap=cap,
        left=rounded_down(left),
    )
    lines.append((say("Budget with it"), reserved))
    lines.append((say("What would be left"), _left(left, cap, alone, say)))
    return lines


def _left(left: float, cap: float, alone: float, say: Say) -> str:
    """In words. Epsilons of studies add up to less than their sum, so that as many more as fit by
    adding up certainly fit."""
    share, more = math.floor(100 * left / cap), math.floor(left / alone)
    if more == 0:
        return say(
            "{share}% of the budget for ever, perhaps too little for another study like this one",
            share=share,
        )
    return say(
        "{share}% of the budget for ever, enough for {more} more like this one at least",
        share=share,
        more=more,
    )


def _patients(study: Study, say: Say) -> str:
    if study.query is not None:
        if (scored := study.query.scored) is not None:
            return _scored(scored, study.query, say)
        if study.query.where is None:
            return say(
                "all of the task's patients; each counts once in a statistic, by his first such "
                "record"
            )
        return say(
            "the task's patients with a record where {where}; each counts once in a statistic, by "
            "his first such record",
            where=in_words(study.query.where),
        )
    evaluation = study.evaluation
    match evaluation.split:
        case "column":
            return say("the task's cohort; a column of it says who trains and who evaluates")
        case "date":
            return say(
                "the task's cohort: records before {day} to train, those from then on to evaluate; "
                "the column `day` says which they are",
                day=evaluation.since,
            )
        case "patients":
            return say(
                "the task's cohort: {train:.0%} of it to train, {test:.0%} to evaluate",
                train=1 - evaluation.fraction,
                test=evaluation.fraction,
            )
    assert_never(evaluation.split)


def _scored(scored: Scored, query: Query, say: Say) -> str:
    among = ""
    if query.where is not None:
        among = say(", where {condition}", condition=in_words(query.where))
    return say(
        "patients whom this site scored from {since} to {until} with the model {model}, what it "
        "said and what it was given{among}; each counts once in a statistic, by his first such "
        "record",
        since=scored.since,
        until=scored.until,
        model=scored.model[:12],
        among=among,
    )


def _told_apart(study: Study, say: Say) -> Lines:
    evaluation = study.evaluation
    if not evaluation.subgroups:
        return []
    what = say(
        "{by}. Each is one more release about every patient who evaluates; a level of fewer than "
        "{least} counted patients is not shown",
        by="; ".join(map(partition_in_words, evaluation.subgroups)),
        least=evaluation.least_count,
    )
    if evaluation.exact:
        what += "; " + say("the counts have no noise")
    return [(say("For whom it fails, by"), what)]


def _questions(query: Query, say: Say) -> Lines:
    lines = [
        (say("Question {number}", number=number), _question(statistic, say))
        for number, statistic in enumerate(query.statistics, start=1)
    ]
    more = len(lines) - _MAX_QUESTIONS
    return [*lines[:_MAX_QUESTIONS], *([(say("More questions"), str(more))] if more > 0 else [])]


def _read_as(analysis: Analysis, say: Say) -> str:
    match analysis:
        case TableOne():
            return say("a table one: means, quartiles, shares and missing values")
        case Survival():
            return say("survival: Kaplan-Meier curves, median and mean times, log-rank test")
        case Regression():
            return say(
                "a regression ({family}) with standard errors that know the noise",
                family=analysis.family,
            )
        case Hazards():
            return say(
                "proportional hazards (Cox): hazard ratios with intervals that know the noise"
            )
        case Drift():
            return say(
                "drift: whether these counts are still shared out as in a histogram from before"
            )
        case Harmonisation():
            return say("harmonisation: how far hospitals lie from one another in each column")
    assert_never(analysis)


def _fitted(analysis: AnyExact, say: Say) -> str:
    """What an exact analysis is of."""
    within = ""
    if analysis.strata is not None:
        within = say(", within {column}", column=analysis.strata.column)
    if isinstance(analysis, ExactSurvival):
        groups = (
            "" if analysis.groups is None else say(", by {column}", column=analysis.groups.column)
        )
        return say(
            "survival curves and a log-rank test of {column}{groups}{within}, from one sum of "
            "events and departures in intervals of time",
            column=analysis.outcome.time.column,
            groups=groups,
            within=within,
        )
    return say(
        "a {model} model of {names}{within}: from 0, in at most {iterates} iterates, which every "
        "site computes itself from all sums",
        model=analysis.model,
        names=", ".join(analysis.names),
        within=within,
        iterates=analysis.iterates,
    )


def _question(statistic: Statistic, say: Say) -> str:
    among = ""
    if statistic.where is not None:
        among = say(", where {condition}", condition=in_words(statistic.where))
    match statistic:
        case Mean():
            return (
                say(
                    "{name}: the mean of {column}, clipped to {low:g} to {high:g}",
                    name=statistic.name,
                    column=statistic.column,
                    low=statistic.low,
                    high=statistic.high,
                )
                + among
            )
        case Cells(axes=()):
            return say("{name}: how many", name=statistic.name) + among
        case Cells(axes=axes):
            by = ", ".join(
                say("{column} ({cells} cells)", column=axis.column, cells=len(axis.labels))
                for axis in axes
            )
            return say("{name}: how many by {by}", name=statistic.name, by=by) + among
        case Differing():
            return (
                say(
                    "{name}: whether this site's counts by {column} ({cells} cells), with noise, "
                    "differ from those of all sites, and how far",
                    name=statistic.name,
                    column=statistic.axis.column,
                    cells=len(statistic.axis.labels),
                )
                + among
            )
    assert_never(statistic)


def _columns(schema: Schema | None, say: Say) -> Lines:
    if schema is None:
        return []
    meant = len(schema.columns) <= _MEANINGS
    columns = ", ".join(f"{c.name} ({c.meaning})" if meant else c.name for c in schema.columns)
    said = say(
        "{columns}; to learn {label} ({meaning})",
        columns=columns,
        label=schema.label,
        meaning=schema.label_meaning,
    )
    return [(say("Which columns"), said)]


def _what_leaves(study: Study, say: Say) -> str:
    aggregation = study.aggregation
    if aggregation.masked:
        return say(
            "masked numbers; only sums over {least} or more sites can be opened, while no more "
            "than {colluding} collude with the coordinator",
            least=aggregation.least_sites,
            colluding=aggregation.colluding_sites,
        )
    if aggregation.robust is None:
        return say("this site's own updates, without secure aggregation: the coordinator sees each")
    return say(
        "this site's own updates, without secure aggregation: the coordinator sees each and "
        "combines them by {rule}",
        rule=aggregation.robust.name,
    )


def _what_stays(study: Study, say: Say) -> Lines:
    """What the study's algorithm makes at this site that never leaves it."""
    match study.optimisation.local:
        case FedAvgOptions() | FedProxOptions():
            return []
        case ScaffoldOptions():
            what = say("a control variate, until the study ends")
        case FedBNOptions():
            what = say("normalisation layers of this site's own, for its own use")
        case DittoOptions():
            what = say("a model of this site's own, for its own use")
        case never:
            assert_never(never)
    return [(say("What stays here"), what)]


def _exact_sums(study: Study, policy: Policy, say: Say) -> Lines:
    planned = planned_exactly(study)
    if not planned:
        return []
    if study.exact is not None:
        said = say("{planned} sums at most: an exact sum can show one patient.", planned=planned)
        return [(say("Without noise"), f"{said} {say(honest(study.exact))}")]
    said = say(
        "{planned} sums at most: an exact sum can show one patient. Whoever chooses the model can "
        "read off a few of them any one patient's record",
        planned=planned,
    )
    if study.task.name in policy.public_data:
        said += "; " + say("policy.public_data says that these are public or synthetic")
    return [(say("Without noise"), said)]


def _how_private(study: Study, say: Say) -> str:
    privacy = study.privacy
    if study.query is not None and study.query.compares_sites:
        return say(
            "epsilon {epsilon:g} at delta {delta:g} for each patient; this site adds all of the "
            "{noise} noise to its own counts, of which about 95% stays below {half:.3g} patients "
            "in each cell; sums over sites of what is made of these are shown without more noise",
            epsilon=privacy.epsilon,
            delta=privacy.delta,
            noise=noise_in_words(study.query.mechanism),
            half=half_width_of_counts(study),
        )
    if study.query is not None:
        return say(
            "epsilon {epsilon:g} at delta {delta:g} for each patient; the sites share {noise} "
            "noise, of which about 95% stays below {half:.3g} patients in each of {cells} cells; "
            "below {least} nothing is shown",
            epsilon=privacy.epsilon,
            delta=privacy.delta,
            noise=noise_in_words(study.query.mechanism),
            half=half_width_of_counts(study),
            cells=study.query.cells,
            least=study.query.least_count,
        )
    match privacy.traits.noise_source:
        case "nobody":
            if not study.evaluation.noised:
                return say(
                    "not at all beyond the sum: no noise is added, and no epsilon covers anyone"
                )
            return say(
                "training not at all beyond the sum: no noise is added to it; evaluation alone has "
                "epsilon {epsilon:g} at delta {delta:g}",
                epsilon=privacy.epsilon,
                delta=privacy.delta,
            )
        case "each_site":
            where = say("each site adds all the noise")
        case "sites_together":
            where = say("the sites share the noise")
            if not study.aggregation.masked:
                where = say("each site's part of the noise suffices alone")
        case never:
            assert_never(never)
    text = say(
        "epsilon {epsilon:g} at delta {delta:g} for each patient; {where} (multiplier {noise:g}, "
        "{attempts} attempts at most)",
        epsilon=privacy.epsilon,
        delta=privacy.delta,
        where=where,
        noise=privacy.noise_multiplier,
        attempts=study.aggregation.attempts,
    )
    if study.evaluation.exact:
        text += "; " + say("the patients who evaluate are not covered: their sums are exact")
    return text


def _meaning(study: Study, say: Say) -> Lines:
    """The best that anybody can do who guesses whether a patient is in the data, both being equally
    likely before: right with probability (e^epsilon + delta) / (1 + e^epsilon) at most (Kairouz, Oh
    and Viswanath 2015, theorem 2.1)."""
    epsilon, delta = study.privacy.epsilon, study.privacy.delta
    if epsilon is None or study.exact is not None:
        return []  # exact sums tell more than epsilon says
    right = (1 + delta * math.exp(-epsilon)) / (1 + math.exp(-epsilon))
    said = say(
        "whoever guesses from the results whether a given patient took part is right in at most "
        "{right} of 100 cases; without any results in 50",
        right=min(100, math.ceil(100 * right)),
    )
    return [(say("What that means"), said)]


def _assumption(study: Study, say: Say) -> Lines:
    if study.privacy.epsilon is None:
        return []
    said = say(ASSUMPTION, sites=study.privacy.sites_per_patient)
    return [(say("What that assumes"), said)]
