"""Configuration -> study: everything public is fixed here, before anything private is touched.

The noise follows from epsilon, delta and the number of attempts, scale and words from the model
and the roster. The result is the document that sites are asked to accept.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from launch.config.schema import Config
from launch.config.study_documents import (
    local_of,
    mode_of,
    one_of,
    release_of,
    robust_of,
    schedule_of,
    stop_of,
)
from protocol.errors import Code, WardroundError
from protocol.metrics.score_histogram import bins_for
from protocol.privacy.accounting import calibrate, epsilon_over_bands, recommended_scale
from protocol.privacy.events import Event
from protocol.privacy.releases import (
    evaluation_event,
    most_evaluations,
    planned_events,
    training_event,
)
from protocol.privacy.word_size import word_bits_needed
from protocol.secagg.fixed_point import WordBits
from protocol.study.algorithms import fewest_sites
from protocol.study.privacy_mode import traits_of
from protocol.study.study import (
    Aggregation,
    Averaging,
    Evaluation,
    Member,
    Model,
    Optimisation,
    Privacy,
    ServerOptimiser,
    Split,
    Study,
    SumRounding,
    TaskReference,
    adds_noise,
)
from server.model.optimisers import NAMES
from tasks.base import Task
from tasks.flat_model import FlatModel
from tasks.models.normalisation import normalisation

_EVALUATION_SHARE = 0.5
"""Of epsilon, for evaluation alone, where the same patients train and evaluate."""
_MOST_BY_PATIENT = 2**10
"""Parameters. Rounding each patient's gradient costs memory and time in proportion to the model;
of larger models, a site rounds the sum, for .4% more sensitivity."""
_HALVINGS, _COARSER = 4, 1.02
"""How far the clip norm's integer may be halved, and how much more noise that may take."""


def build_study(config: Config, task: Task, declared: Mapping[str, int]) -> Study:
    """The study that a configuration describes, for sites with these declared patients.

    Raises WardroundError: CONFIGURATION naming the option, EPSILON_UNREACHABLE.
    """
    if config.optimiser.name not in NAMES:
        raise WardroundError(
            Code.CONFIGURATION,
            f"There is no server optimiser {config.optimiser.name!r}.",
            remedy=f"Choose one of: {', '.join(NAMES)}.",
        )
    try:
        draft = _draft(config, task, declared)
        study = _with_noise(config, draft) if draft.privacy.traits.private else draft
        return study if config.aggregation.word_bits else _with_words(config, study)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise WardroundError(
            Code.CONFIGURATION,
            f"The study is not valid: {where + ': ' if where else ''}{first['msg']}.",
            remedy="`wardround run --info` explains every key.",
        ) from None


def _draft(config: Config, task: Task, declared: Mapping[str, int]) -> Study:
    """The study with a noise multiplier of 1 wherever noise will be."""
    model = FlatModel(task, config.seed)
    layout = model.layout
    if config.algorithm.name == "fedbn" and not normalisation(model).any():
        raise WardroundError(
            Code.CONFIGURATION,
            f"The model of task {task.name} has no normalisation layers for fedbn to keep.",
            remedy="Choose another algorithm, or a task whose model has GroupNorm or LayerNorm.",
        )
    rounding: SumRounding = "patient" if layout.size <= _MOST_BY_PATIENT else "site"
    mode, release = mode_of(config), release_of(config)
    aggregation, evaluation = config.aggregation, config.evaluation
    spare = aggregation.spare_attempts
    if spare is None:
        spare = max(3, config.rounds // 20) if config.federation.name == "deployment" else 0
    least = aggregation.least_sites
    if least is None:
        least = min(max(3, fewest_sites(robust_of(config))), len(declared))
    return Study(
        title=config.title,
        purpose=config.purpose,
        contact=config.contact,
        nonce=secrets.token_hex(8),
        task=TaskReference(
            name=task.name,
            version=task.version,
            source=task.source_digest(),
            options={
                option: value
                for option, value in task.options.items()
                if value != task.choices[option][0]
            },
        ),
        model=Model(parameters=layout.size, layout=layout.digest),
        privacy=Privacy(
            mode=mode,
            clip_norm=config.privacy.clip_norm,
            noise_multiplier=1.0 if traits_of(mode).private else 0.0,
            sampling_rate=config.privacy.sampling_rate,
            delta=config.privacy.delta,
            epsilon=config.privacy.epsilon,
        ),
        optimisation=Optimisation(
            rounds=config.rounds,
            local_steps=config.local_steps,
            local_lr=config.local_lr,
            local=local_of(config),
            schedule=schedule_of(config),
            stop=stop_of(config),
            server=ServerOptimiser(
                name=config.optimiser.name,
                lr=config.optimiser.lr,
                momentum=config.optimiser.momentum,
                beta1=config.optimiser.beta1,
                beta2=config.optimiser.beta2,
                tau=config.optimiser.tau,
            ),
            averaging=one_of(config.averaging, Averaging, "averaging"),
            seed=config.seed,
        ),
        aggregation=Aggregation(
            masked=config.federation.masked,
            robust=robust_of(config),
            least_sites=least,
            colluding_sites=min(aggregation.colluding_sites, max(0, least - 1)),
            attempts=config.rounds + 1 + spare,
            word_bits=one_of(aggregation.word_bits or 32, WordBits, "aggregation.word_bits"),
            update_range=aggregation.update_range,
            scale=aggregation.scale
            or recommended_scale(
                layout.size,
                rounding=rounding,
                epsilon=config.privacy.epsilon or 1.0,
                delta=config.privacy.delta,
                attempts=config.rounds + 1 + spare,
            ),
            rounding=rounding,
        ),
        evaluation=Evaluation(
            every=evaluation.every,
            bins=evaluation.bins or 512,
            release=release,
            noise_multiplier=1.0 if adds_noise(release) else 0.0,
            split=one_of(evaluation.split, Split, "evaluation.split"),
            fraction=evaluation.fraction,
        ),
        roster=tuple(Member(name=site, patients=declared[site]) for site in sorted(declared)),
    )


def _with_noise(config: Config, draft: Study) -> Study:
    """Calibrates evaluation, then training with what evaluation leaves, then sizes the words."""
    target, delta = config.privacy.epsilon or 0.0, draft.privacy.delta
    study, evaluation = draft, evaluation_event(draft)
    if evaluation is not None:
        alone = target * (1.0 if draft.evaluation.disjoint else _EVALUATION_SHARE)
        event = replace(evaluation, count=most_evaluations(draft))
        noise = calibrate(alone, delta, event)
        bins = config.evaluation.bins or _bins(draft, noise)
        study = _changed(study, "evaluation", noise_multiplier=noise, bins=bins)
    training = training_event(study)
    if training is not None:
        event = replace(training, count=training.count * draft.aggregation.attempts)
        multiplier = calibrate(target, delta, event, _beside(study))
        _refuse_drowned(study, multiplier, target)
        study = _changed(study, "privacy", noise_multiplier=multiplier)
    spent = epsilon_over_bands(planned_events(study), delta)
    return _changed(study, "privacy", epsilon=max(target, spent))


def _with_words(config: Config, study: Study) -> Study:
    """The smallest words that hold the study's sums. Where a coarser clip norm makes 32 bits do
    for hardly more noise, it is taken: it halves the bytes of every round."""
    fine, bits = study, word_bits_needed(study)
    for _ in range(_HALVINGS):
        if bits == 32 or config.aggregation.scale or not study.privacy.traits.one_sum:
            break
        study = _changed(study, "aggregation", scale=study.aggregation.scale // 2)
        study = _with_noise(config, study)
        if study.privacy.noise_multiplier > _COARSER * fine.privacy.noise_multiplier:
            break
        if word_bits_needed(study) == 32:
            fine, bits = study, 32
    return _changed(fine, "aggregation", word_bits=bits)


def _refuse_drowned(study: Study, multiplier: float, target: float) -> None:
    """Epsilon can always be had with enough noise; below this ratio of signal (all patients pull
    one way in every step) to noise, nothing is left to learn from."""
    rate, steps = study.privacy.sampling_rate, study.optimisation.local_steps
    strongest = rate * study.patients() * math.sqrt(study.optimisation.rounds * steps)
    if strongest < multiplier:
        raise WardroundError(
            Code.EPSILON_UNREACHABLE,
            f"Epsilon {target:g} would take a noise multiplier of {multiplier:g}, which drowns all "
            f"that {study.patients()} patients can say in {study.optimisation.rounds} rounds.",
            remedy="Ask for a larger epsilon or delta, or bring more patients.",
        )


def _beside(study: Study) -> list[Event]:
    """What evaluation spends of the patients who train: nothing, where parts are disjoint."""
    evaluation = evaluation_event(study)
    if evaluation is None or study.evaluation.disjoint:
        return []
    return [replace(evaluation, count=most_evaluations(study))]


def _bins(study: Study, noise: float) -> int:
    """Bins that suit the patients who evaluate and the noise on the opened sum."""
    fraction = study.evaluation.fraction
    scored = study.patients() * fraction / (1 - fraction)
    sites, honest = len(study.roster), len(study.roster) - study.aggregation.colluding_sites
    shares = study.privacy.traits.noise_share(sites, honest)
    return bins_for(int(scored), noise * shares**0.5)


def _changed(study: Study, section: str, **values: Any) -> Study:
    """The study with other values in one section, validated anew."""
    document = study.model_dump()
    document[section] |= values
    return Study.model_validate(document)
