"""Configuration -> study, the document that sites are asked to accept.

Noise follows from epsilon, delta and the number of attempts; scale and word size from the model and
the roster (`protocol.privacy.calibration`). No private data is read.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import asdict
from typing import TypeVar

from pydantic import ValidationError

from launch.config.schema import Config
from launch.config.study_documents import (
    gates_of,
    local_of,
    local_optimiser_of,
    local_schedule_of,
    mode_of,
    one_of,
    release_of,
    robust_of,
    schedule_of,
    stop_of,
    subgroups_of,
)
from launch.studies.plan_spares import spare_attempts
from launch.studies.starting_model import starting_model
from protocol.document import first_fault
from protocol.errors import Code, WardroundError
from protocol.models.starting_model import StartingModel, check_parent
from protocol.privacy.accounting import recommended_scale
from protocol.privacy.calibration import (
    coarsened,
    fitted,
    sum_rounding,
    with_noise,
    with_range,
    with_words,
)
from protocol.secagg.fixed_point import WordBits
from protocol.study.algorithms import min_sites_of_rule
from protocol.study.privacy_mode import is_shared, traits_of
from protocol.study.study import (
    MOST_SITES,
    UPDATE_RANGE,
    Aggregation,
    Averaging,
    Evaluation,
    Member,
    Model,
    Optimisation,
    Precision,
    Privacy,
    ServerOptimiser,
    Split,
    Study,
    adds_noise,
    evaluates,
)
from protocol.terminal.study_texts import check_texts
from server.model.optimisers import NAMES
from tasks import contract, registry
from tasks.base import Task
from tasks.flat_model import FlatModel
from tasks.models.normalisation import normalisation

T = TypeVar("T")


def build_study(config: Config, task: Task, declared: Mapping[str, int]) -> Study:
    """The study that a configuration describes, for those of the sites with these declared
    patients that `federation.sites` names.

    Raises WardroundError: CONFIGURATION naming the option, or the task's method that breaks its
    contract; NO_DATA naming a site where nobody trains; EPSILON_UNREACHABLE; REFUSED_STUDY for
    texts that cannot be shown, or a model to start from that is of another kind; and as
    `starting_model`.
    """
    contract.check(task)
    declared = chosen(config, declared)
    if idle := [site for site, patients in declared.items() if not patients]:
        raise WardroundError(
            Code.NO_DATA,
            f"At {idle[0]} no patient trains: its few patients are all set apart for evaluation.",
            remedy="Leave it out (federation.sites names those that take part), lower "
            "evaluation.fraction, or give it more patients.",
        )
    if config.optimiser.name not in NAMES:
        raise WardroundError(
            Code.CONFIGURATION,
            f"There is no server optimiser {config.optimiser.name!r}.",
            remedy=f"Choose one of: {', '.join(NAMES)}.",
        )
    started = starting_model(config)
    try:
        study = _calibrated(config, _draft(config, task, declared, started))
    except ValidationError as error:
        where, what, _ = first_fault(error)
        raise WardroundError(
            Code.CONFIGURATION,
            f"The study is not valid: {where + ': ' if where else ''}{what}.",
            remedy="`wardround run --info` explains every key.",
        ) from None
    check_texts(study)
    if started is not None:
        check_parent(study, started.study)
    return study


def chosen(config: Config, sites: Mapping[str, T]) -> dict[str, T]:
    """The sites that `federation.sites` names; all where it names none.

    Raises WardroundError(CONFIGURATION) where one is unknown, or they are fewer than a sum needs
    or more than a study has.
    """
    names = set(config.federation.sites) or set(sites)
    if unknown := sorted(names - set(sites)):
        raise WardroundError(
            Code.CONFIGURATION,
            f"federation.sites names sites that are not there: {', '.join(unknown)}.",
            remedy=f"These are there: {', '.join(sorted(sites))}.",
        )
    if len(names) > MOST_SITES:
        raise WardroundError(
            Code.CONFIGURATION,
            f"{len(names)} sites are there, and a study has at most {MOST_SITES}.",
            remedy="Choose some with federation.sites.",
        )
    least = config.aggregation.least_sites or (3 if config.federation.masked else 1)
    if config.federation.sites and len(names) < least:
        raise WardroundError(
            Code.CONFIGURATION,
            f"federation.sites names {len(names)} sites, and a sum needs {least}.",
            remedy="Name more of them, or lower aggregation.least_sites (not below 3 with masks).",
        )
    return {site: sites[site] for site in sorted(names)}


def _calibrated(config: Config, draft: Study) -> Study:
    epsilon, bins, aggregation = config.privacy.epsilon, config.evaluation.bins, config.aggregation
    study = draft if epsilon is None else with_noise(draft, epsilon, bins=bins)
    few = aggregation.update_bits is not None
    if few and not aggregation.update_range and not study.privacy.traits.one_sum:
        study = with_range(study)
    if few and epsilon is not None and not aggregation.scale and study.privacy.traits.one_sum:
        study = fitted(study, epsilon, bins=bins)
    if aggregation.word_bits:
        return study
    if epsilon is not None and not (aggregation.scale or few):
        study = coarsened(study, epsilon, bins=bins)
    return with_words(study)


def _draft(
    config: Config, task: Task, declared: Mapping[str, int], started: StartingModel | None
) -> Study:
    """The study with a noise multiplier of 1 wherever noise will be."""
    model = FlatModel(task, config.seed)
    layout = model.layout
    if config.algorithm.name == "fedbn" and not normalisation(model).any():
        raise WardroundError(
            Code.CONFIGURATION,
            f"The model of task {task.name} has no normalisation layers for fedbn to keep.",
            remedy="Choose another algorithm, or a task whose model has GroupNorm or LayerNorm.",
        )
    rounding = sum_rounding(layout.size)
    mode, release = mode_of(config), release_of(config)
    aggregation, evaluation = config.aggregation, config.evaluation
    spare = aggregation.spare_attempts
    needed = config.rounds + int(evaluates(release))
    if spare is None:
        deployed = config.federation.name == "deployment"
        spare = spare_attempts(needed, aggregation.loss) if deployed else 0
    attempts = needed + spare
    min_sites = aggregation.least_sites
    if min_sites is None:
        min_sites = min(max(3, min_sites_of_rule(robust_of(config))), len(declared))
    masked = config.federation.masked
    if masked is None:
        masked = _shares_noise(config) and min_sites >= 3 and robust_of(config) is None
    return Study(
        title=config.title,
        purpose=config.purpose,
        contact=config.contact,
        expires=config.expires,
        nonce=secrets.token_hex(8),
        task=registry.reference_to(task),
        model=Model(parameters=layout.size, layout=layout.digest, frozen=model.frozen_digest),
        privacy=Privacy(
            mode=mode,
            clip_norm=config.privacy.clip_norm,
            noise_multiplier=1.0 if traits_of(mode).private else 0.0,
            sampling_rate=config.privacy.sampling_rate,
            delta=config.privacy.delta,
            epsilon=config.privacy.epsilon,
            sites_per_patient=config.privacy.sites_per_patient,
        ),
        optimisation=Optimisation(
            rounds=config.rounds,
            local_steps=config.local_steps,
            local_lr=config.local_lr,
            local=local_of(config),
            local_optimiser=local_optimiser_of(config),
            local_schedule=local_schedule_of(config),
            precision=one_of(config.precision, Precision, "precision"),
            schedule=schedule_of(config),
            stop=stop_of(config),
            server=ServerOptimiser(**asdict(config.optimiser)),
            averaging=one_of(config.averaging, Averaging, "averaging"),
            seed=config.seed,
        ),
        aggregation=Aggregation(
            masked=masked,
            robust=robust_of(config),
            least_sites=min_sites,
            colluding_sites=min(aggregation.colluding_sites, max(0, min_sites - 1)),
            attempts=attempts,
            word_bits=one_of(aggregation.word_bits or 32, WordBits, "aggregation.word_bits"),
            update_bits=aggregation.update_bits,
            update_range=aggregation.update_range or UPDATE_RANGE,
            scale=aggregation.scale
            or recommended_scale(
                layout.size,
                rounding=rounding,
                epsilon=config.privacy.epsilon or 1.0,
                delta=config.privacy.delta,
                attempts=attempts,
            ),
            rounding=rounding,
            grace=aggregation.grace if _may_be_absent(config) else None,
            slow=aggregation.slow if _may_be_absent(config) else None,
        ),
        evaluation=Evaluation(
            every=evaluation.every,
            bins=evaluation.bins or task.outcome.bins_for(sum(declared.values()), noise=0.0),
            release=release,
            noise_multiplier=1.0 if adds_noise(release) else 0.0,
            split=one_of(evaluation.split, Split, "evaluation.split"),
            fraction=evaluation.fraction,
            since=evaluation.since,
            subgroups=subgroups_of(config, task.schema),
            least_count=evaluation.least_count,
        ),
        roster=tuple(Member(name=site, patients=declared[site]) for site in sorted(declared)),
        outcome=task.outcome,
        gates=gates_of(config, task),
        start=None if started is None else started.start,
    )


def _may_be_absent(config: Config) -> bool:
    """Whether sites come and go: in one process they do not, and exact sums take all of them."""
    exact = evaluates(release_of(config)) and not adds_noise(release_of(config))
    private = traits_of(mode_of(config)).private
    told_apart = bool(config.evaluation.hospitals)
    return config.federation.name == "deployment" and private and not (exact or told_apart)


def _shares_noise(config: Config) -> bool:
    """Whether some noise suffices only in the sum, so that masks spare noise."""
    traits = traits_of(mode_of(config))
    noised = adds_noise(release_of(config))
    return traits.shares_noise or (noised and is_shared(traits.evaluation_noise_source))
