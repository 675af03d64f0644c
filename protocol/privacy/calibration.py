"""From an epsilon to a study's noise, and from both to the size of its words.

Pure functions of a draft and of what is asked for, so that everybody who plans a study or a query
plans the same. A draft is a study that is valid but for its noise: its multipliers are 1 wherever
noise will be.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, assert_never

from protocol.errors import Code, WardroundError
from protocol.privacy.accounting import calibrate, epsilon_over_bands
from protocol.privacy.events import Event
from protocol.privacy.releases import (
    evaluation_event,
    max_evaluations,
    planned_events,
    pooled_evaluation,
    training_event,
)
from protocol.privacy.word_size import update_bits_needed, word_bits_needed
from protocol.study.privacy_mode import noise_share
from protocol.study.quantiser import window
from protocol.study.query import Mean, Query
from protocol.study.study import Study, SumRounding
from protocol.study.vector_layout import update_word_bits

_EVALUATION_SHARE = 0.5
"""Of epsilon, for evaluation alone, where the same patients train and evaluate."""
_MAX_BY_PATIENT = 2**10
"""Parameters. Rounding each patient's gradient costs memory and time in proportion to the model;
of larger models, a site rounds the sum, for .4% more sensitivity."""
_RANGE = 4.0
"""Deviations of a rotated coordinate: one in 16,000 is beyond."""
_HALVINGS, _COARSER = 4, 1.02
"""How far the clip norm's integer may be halved, and how much more noise that may take."""


def with_noise(draft: Study, epsilon: float, *, bins: int | None = None) -> Study:
    """The draft with the least noise with which all its attempts stay at or below `epsilon`:
    calibrates evaluation first, then training with what evaluation leaves.

    bins: of evaluation's histograms; without, as many as suit the noise. Raises
    WardroundError(EPSILON_UNREACHABLE), and pydantic's ValidationError.
    """
    delta, study = draft.privacy.delta, draft
    if draft.query is not None:
        multiplier = {"noise_multiplier": _query_noise(draft, draft.query, epsilon)}
        study = _changed(draft, privacy=multiplier, evaluation=multiplier)
    elif (event := _evaluations(draft)) is not None:
        apart = draft.parts_disjoint or not draft.privacy.traits.private
        alone = epsilon * (1.0 if apart else _EVALUATION_SHARE)
        # Of the sum: without masks the event is a share, which then suffices alone.
        per_share = draft.evaluation.noise_multiplier / event.noise_multiplier
        noise = per_share * calibrate(alone, delta, event)
        study = _changed(
            draft, evaluation={"noise_multiplier": noise, "bins": bins or _bins(draft, noise)}
        )
    if (training := training_event(study)) is not None:
        event = replace(training, count=training.count * draft.aggregation.attempts)
        per_share = study.privacy.noise_multiplier / training.noise_multiplier
        noise = per_share * calibrate(epsilon, delta, event, _beside(study))
        _refuse_drowned(study, noise, epsilon)
        study = _changed(study, privacy={"noise_multiplier": noise})
    spent = epsilon_over_bands(planned_events(study), delta)
    return _changed(study, privacy={"epsilon": max(epsilon, spent)})


def _query_noise(draft: Study, query: Query, epsilon: float) -> float:
    pooled = pooled_evaluation(draft)
    if pooled is None:
        raise WardroundError(Code.INTERNAL, "A query is answered without noise.")
    event = replace(pooled, count=pooled.count * max_evaluations(draft))
    noise = calibrate(epsilon, draft.privacy.delta, event)
    match query.mechanism:
        case "skellam":
            return noise
        case "laplace":  # where pure epsilons just add up, to the last digit
            exact = replace(event, noise_multiplier=event.count * event.sites_per_patient / epsilon)
            fits = epsilon_over_bands([exact], draft.privacy.delta) <= epsilon
            return min(noise, exact.noise_multiplier) if fits else noise
    assert_never(query.mechanism)


def _evaluations(study: Study) -> Event | None:
    """What all attempts to evaluate release together."""
    event = evaluation_event(study)
    return event and replace(event, count=event.count * max_evaluations(study))


def _beside(study: Study) -> list[Event]:
    """What evaluation spends of the patients who train: nothing, where parts are disjoint."""
    evaluation = _evaluations(study)
    return [] if evaluation is None or study.parts_disjoint else [evaluation]


def _refuse_drowned(study: Study, multiplier: float, epsilon: float) -> None:
    """Epsilon can always be had with enough noise; below this ratio of signal (all patients pull
    one way in every step) to noise, nothing is left to learn from."""
    rate, steps = study.privacy.sampling_rate, study.optimisation.local_steps
    strongest = rate * study.patients() * math.sqrt(study.optimisation.rounds * steps)
    if strongest < multiplier:
        raise WardroundError(
            Code.EPSILON_UNREACHABLE,
            f"Epsilon {epsilon:g} would take a noise multiplier of {multiplier:g}, which drowns "
            f"all that {study.patients()} patients can say in {study.optimisation.rounds} rounds.",
            remedy="Ask for a larger epsilon or delta, or bring more patients.",
        )


def _bins(study: Study, noise: float) -> int:
    """Bins that suit the patients who evaluate and the noise on the opened sum."""
    fraction, sites = study.evaluation.fraction, len(study.roster)
    scored = study.patients() * fraction / (1 - fraction)
    source = study.privacy.traits.evaluation_noise_source
    shares = noise_share(source, sites, sites - study.aggregation.colluding_sites)
    deviation = noise * study.outcome.sensitivity * shares**0.5
    return study.outcome.bins_for(int(scored), deviation)


def coarsened(study: Study, epsilon: float, *, bins: int | None = None) -> Study:
    """The study with a coarser clip norm, calibrated again, where that makes 32-bit words do for
    hardly more noise: it halves the bytes of every round. Otherwise the study as it is."""
    if not study.privacy.traits.one_sum or word_bits_needed(study) == 32:
        return study
    coarse = study
    for _ in range(_HALVINGS):
        coarse = _changed(coarse, aggregation={"scale": coarse.aggregation.scale // 2})
        coarse = with_noise(coarse, epsilon, bins=bins)
        if coarse.privacy.noise_multiplier > _COARSER * study.privacy.noise_multiplier:
            return study
        if word_bits_needed(coarse) == 32:
            return coarse
    return study


def fitted(study: Study, epsilon: float, *, bins: int | None = None) -> Study:
    """The study of mode distributed with the largest clip norm in integers, of those that halve its
    own, whose sums fit the words of update_bits; calibrated again, so that epsilon pays for the
    coarser rounding. Raises as `with_noise`."""
    own = update_word_bits(study)
    while own is not None and study.aggregation.scale > 1 and update_bits_needed(study) > own:
        while study.aggregation.scale > 1 and update_bits_needed(study) > own:
            study = _changed(study, aggregation={"scale": study.aggregation.scale // 2})
        study = with_noise(study, epsilon, bins=bins)
    return study


def with_range(study: Study) -> Study:
    """The study with the update_range that suits numbers of few bits: four deviations of a rotated
    coordinate (`quantiser.rotated`) if all gradients are as long as the clip norm and point one
    way, with the noise of mode local beside them, at the site with most patients."""
    plan, privacy = study.optimisation, study.privacy
    largest = max(study.patients(frozenset({site})) for site in study.sites) / study.patients()
    pooled = privacy.sampling_rate * study.patients()
    noise = math.sqrt(plan.local_steps * study.model.parameters) * privacy.noise_multiplier / pooled
    norm = plan.local_lr * privacy.clip_norm * math.hypot(plan.local_steps * largest, noise)
    spread = min(1.0, _RANGE / math.sqrt(window(study.model.parameters)))
    return _changed(study, aggregation={"update_range": norm * spread})


def with_words(study: Study) -> Study:
    """The study with the smallest words that hold its sums. Raises
    WardroundError(CONFIGURATION)."""
    return _changed(study, aggregation={"word_bits": word_bits_needed(study)})


def sum_rounding(parameters: int) -> SumRounding:
    """Which rounding suits the clipped sums of a model of this size."""
    return "patient" if parameters <= _MAX_BY_PATIENT else "site"


def patient_scale(query: Query) -> int:
    """The integer that a patient becomes in a query's cells, fine enough for its noise."""
    match query.mechanism:
        case "laplace":  # only a mean needs a finer grid than 1
            return 8 if any(isinstance(one, Mean) for one in query.statistics) else 1
        case "skellam":
            return 256
    assert_never(query.mechanism)


def _changed(study: Study, **sections: dict[str, Any]) -> Study:
    """The study with other values in some sections, validated again."""
    document = study.model_dump()
    for section, values in sections.items():
        document[section] |= values
    return Study.model_validate(document)
