"""A study's privacy events: what its whole plan, and what one attempt, releases about a patient.

Pure functions of the study, so that data scientist, coordinator and site compute the same. Every
attempt is counted, opened or lost: a site that answered has spent. Training touches the patients
with u < 1 - fraction and evaluation the others; where a column of the cohort splits, or a patient
may be at several sites, one may be in both, and both touch everyone. A sum whose noise the sites
share is one release about a patient at k sites; where each site has noise of its own, he is in k.
Events are as whoever receives the shares sees them: under masks the sum alone, without masks every
share by itself. An exact release is no event: no epsilon covers it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import assert_never

from protocol.errors import Code, WardroundError
from protocol.privacy.accounting import Event, broken_epsilon, epsilon_over_bands
from protocol.privacy.events import each_site_alone, share_alone
from protocol.secagg.fixed_point import rounding_slack
from protocol.study.privacy_mode import is_shared
from protocol.study.study import Study
from protocol.study.vector_layout import evaluation_norm, largest_release

Band = tuple[float, float]
_ONE_VIEW = "study"
"""In one study a site reads one view, so that its events go by the same names."""
ASSUMPTION = (
    "Epsilon is for a patient who is at no more than {sites} of the sites; nobody can check that, "
    "and for one who is at more of them it is larger."
)
_ROUNDING_ERROR = 1e-6
"""Relative: what epsilon may differ by between two machines' libraries."""


def bands(study: Study) -> tuple[Band, Band]:
    """Who trains and who evaluates, by u in [0, 1). A query is about everyone."""
    if study.query is not None or not study.parts_disjoint:
        return (0.0, 1.0), (0.0, 1.0)
    edge = 1 - study.evaluation.fraction
    return (0.0, edge), (edge, 1.0)


def max_evaluations(study: Study) -> int:
    """Attempts that may evaluate: one a round that does, and every spare one."""
    return study.evaluations + study.spare_attempts if study.evaluation.takes_place else 0


def training_event(study: Study) -> Event | None:
    """One attempt of training; None in mode none and in a query.

    Mode local: `local_steps` of DP-SGD with all the noise at the site. Distributed: one sum of
    clipped gradients, rounded by patient or by site, whose noise the sites share. Raises
    WardroundError(CONFIGURATION) where a share is seen and has hardly any noise.
    """
    if study.query is not None:
        return None
    privacy, aggregation, band = study.privacy, study.aggregation, bands(study)[0]
    match privacy.traits.training:
        case "plain_steps":
            return None
        case "dp_sgd":
            steps = Event(
                "gaussian",
                noise_multiplier=privacy.noise_multiplier,
                sampling_rate=privacy.sampling_rate,
                count=study.optimisation.local_steps,
                band=band,
                sites_per_patient=privacy.sites_per_patient,
            )
            return each_site_alone(steps)
        case "clipped_sum":
            pooled = Event(
                "skellam",
                noise_multiplier=privacy.noise_multiplier,
                sampling_rate=privacy.sampling_rate,
                dimension=study.model.parameters,
                scale=float(aggregation.scale),
                rounding=aggregation.rounding,
                slack=rounding_slack(aggregation.rounding),
                shared=privacy.traits.shares_noise,
                band=band,
                sites_per_patient=privacy.sites_per_patient,
            )
            return _as_seen(study, pooled)
        case never:
            assert_never(never)


def evaluation_event(study: Study) -> Event | None:
    """One attempt of evaluation; None where it is exact, or does not take place.

    In mode local every site adds all the noise, otherwise its share. Raises as `training_event`.
    """
    pooled = pooled_evaluation(study)
    return pooled and _as_seen(study, pooled)


def pooled_evaluation(study: Study) -> Event | None:
    """The sum that one attempt of evaluation opens, however much of it is seen besides.

    A patient moves it by `evaluation_norm`: of a binary outcome he adds `evaluation.scale` to one
    of 2 * bins integers, in a query to one of the cells of each statistic. Each partition by
    subgroups is one release more of the same size, never a parallel one: he is in one level of
    every partition. Where sites are compared, each releases its counts by itself, to whoever reads
    what it makes of them.
    """
    evaluation, sites = study.evaluation, study.privacy.sites_per_patient
    if not evaluation.noised:
        return None
    if study.query is not None:
        counted = Event(
            study.query.mechanism,
            noise_multiplier=evaluation.noise_multiplier,
            count=len(study.query.statistics),
            dimension=study.query.largest,
            scale=float(evaluation.scale),
            rounding="none",
            shared=not study.query.compares_sites,
            sites_per_patient=sites,
        )
        return counted if counted.shared else each_site_alone(counted)
    scores = Event(
        "skellam",
        noise_multiplier=evaluation.noise_multiplier,
        count=evaluation.releases,
        dimension=largest_release(study),
        scale=evaluation_norm(study),
        rounding="none",
        shared=is_shared(study.privacy.traits.evaluation_noise_source),
        band=bands(study)[1],
        sites_per_patient=sites,
    )
    return scores if scores.shared else each_site_alone(scores)


def _as_seen(study: Study, pooled: Event) -> Event:
    """Without masks only a site's own part of the noise protects its share, least when all take
    part."""
    if study.aggregation.masked:
        return pooled
    return share_alone(pooled, len(study.roster) - study.aggregation.colluding_sites)


def assumption(study: Study) -> str:
    """Whom the study's epsilon is for, in words for every report; no site can check it."""
    return ASSUMPTION.format(sites=study.privacy.sites_per_patient)


def planned_events(study: Study) -> tuple[Event, ...]:
    """What the study spends when every attempt is used. Raises as `training_event`."""
    return _several(study, study.aggregation.attempts, max_evaluations(study))


def spent_epsilon(
    study: Study, attempts: int, evaluations: int, *, broken: bool = False
) -> float | None:
    """Epsilon at the study's delta after `attempts` that train and `evaluations` that evaluate,
    lost ones included; None where nothing is noised. `broken`: if secure aggregation did not
    hold."""
    if study.privacy.epsilon is None:
        return None
    evaluations = min(evaluations, max_evaluations(study))
    events = _several(study, min(attempts, study.aggregation.attempts), evaluations)
    delta = study.privacy.delta
    return _broken(study, events, delta) if broken else epsilon_over_bands(events, delta)


def planned_broken_epsilon(study: Study, delta: float) -> float:
    """Epsilon of the whole plan if every share of this study were seen by itself."""
    return _broken(study, planned_events(study), delta)


def check_claim(study: Study) -> None:
    """Raises WardroundError(REFUSED_STUDY) where the study's events spend more than the epsilon
    that it states, or make no sense, and where an epsilon stands beside an exact evaluation."""
    claimed = study.privacy.epsilon
    if claimed is None:
        return
    if study.evaluation.exact:
        raise WardroundError(
            Code.REFUSED_STUDY,
            "The study states an epsilon, and its evaluation is exact: an exact sum can show one "
            "patient.",
            remedy="Evaluate with noise, or not at all (evaluation=off).",
        )
    try:
        spent = epsilon_over_bands(planned_events(study), study.privacy.delta)
    except WardroundError as error:
        raise WardroundError(Code.REFUSED_STUDY, error.message, remedy=error.remedy) from None
    if not spent <= claimed * (1 + _ROUNDING_ERROR):
        raise WardroundError(
            Code.REFUSED_STUDY,
            f"The study states epsilon {claimed:g}, but its attempts spend {spent:g} "
            f"at delta {study.privacy.delta:g}.",
            remedy="State what it spends, or plan more noise or fewer attempts.",
        )


def about_delta(study: Study) -> str | None:
    """What to say of a delta above 1 / patients (Dwork and Roth 2014, section 2.3): it allows a
    mechanism that publishes some patient's record outright. None of a smaller one."""
    delta, patients = study.privacy.delta, study.patients()
    if not study.privacy.traits.private or delta * patients <= 1:
        return None
    return (
        f"delta {delta:g} is above 1/{patients}, one in the declared patients: so large a delta "
        "would allow that a whole record is published now and then"
    )


def _several(study: Study, attempts: int, evaluations: int) -> tuple[Event, ...]:
    training, evaluation = training_event(study), evaluation_event(study)
    events = []
    if training is not None and attempts:
        events.append(replace(training, count=training.count * attempts, names=_ONE_VIEW))
    if evaluation is not None and evaluations:
        events.append(replace(evaluation, count=evaluation.count * evaluations, names=_ONE_VIEW))
    return tuple(events)


def _broken(study: Study, events: Sequence[Event], delta: float) -> float:
    return broken_epsilon(
        events, delta, sites=len(study.roster), colluding_sites=study.aggregation.colluding_sites
    )
