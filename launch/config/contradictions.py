"""Options that contradict each other, refused before anything starts.

Each rule is about two keys, or about names that MLflow has to take. What a single value may be is
said beside its key (`launch.config.schema`); what needs the roster or the model is said by the
study itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from launch.config.schema import PARTS, Config
from launch.config.study_documents import mode_of, one_of, release_of
from protocol.errors import Code, WardroundError
from protocol.study.privacy_mode import traits_of
from protocol.study.study import Split, adds_noise, by_day, evaluates
from server.coordinator.tracking_names import unfit_names


def refuse(config: Config) -> None:
    """Raises WardroundError(CONFIGURATION) for the first contradiction found."""
    for problem, remedy in (
        *_privacy(config),
        *_elsewhere(config),
        *unfit_names(config.tracking.experiment, config.tracking.model),
        *_algorithms(config),
    ):
        raise WardroundError(Code.CONFIGURATION, problem, remedy=remedy)


def _privacy(config: Config) -> Iterator[tuple[str, str]]:
    privacy, aggregation = config.privacy, config.aggregation
    traits = traits_of(mode_of(config))
    noised = adds_noise(release_of(config))
    if not traits.private and not noised and privacy.epsilon is not None:
        yield (
            f"privacy={privacy.mode} adds no noise and can claim no epsilon.",
            "Choose privacy=distributed or privacy=local, or leave privacy.epsilon out.",
        )
    if traits.private and privacy.epsilon is None:
        yield (
            f"privacy={privacy.mode} needs an epsilon.",
            "Set privacy.epsilon, or privacy=none for public data.",
        )
    if not traits.private and noised and privacy.epsilon is None:
        yield (
            f"privacy={privacy.mode} with a noised evaluation needs an epsilon, for that alone.",
            "Set privacy.epsilon, or evaluation=exact for public data, or evaluation=off.",
        )
    if traits.private and evaluates(release_of(config)) and not noised:
        yield (
            f"privacy={privacy.mode} claims an epsilon, and an exact evaluation can show one "
            "patient.",
            "Leave evaluation noised, or set evaluation=off and score the released model on public "
            "data.",
        )
    if traits.one_sum and config.local_steps != 1:
        yield (
            f"privacy={privacy.mode} takes one clipped sum a round, not "
            f"local_steps={config.local_steps}.",
            "Set local_steps=1 and more rounds, or choose privacy=local.",
        )
    least = aggregation.least_sites
    if least is not None and aggregation.colluding_sites >= least:
        yield (
            f"aggregation.colluding_sites={aggregation.colluding_sites} is not below "
            f"aggregation.least_sites={least}: nobody honest would be left.",
            "Lower the one or raise the other.",
        )
    if least is not None and least < 3 and config.federation.masked:
        yield (
            f"aggregation.least_sites={least} with masks: each site would read the other's sum.",
            "Ask for 3 sites or more, or set federation.masked=false where sums may be seen.",
        )


def _algorithms(config: Config) -> Iterator[tuple[str, str]]:
    """(problem, remedy) of keys that do not go together."""
    for section in PARTS:
        yield from _foreign(section, getattr(config, section))
    name, mode = config.algorithm.name, mode_of(config)
    if name in ("fedprox", "scaffold", "fedbn") and traits_of(mode).one_sum:
        yield (
            f"algorithm={name} works on several local steps, and privacy={mode} takes one "
            "gradient a round.",
            "Choose privacy=local (or privacy=none), or algorithm=fedavg.",
        )
    elif name in ("fedprox", "scaffold") and config.local_steps == 1:
        yield (
            f"algorithm={name} corrects a site's later steps of a round: with local_steps=1 there "
            "are none, and it is fedavg.",
            "Set local_steps to 2 or more, or choose algorithm=fedavg.",
        )
    own = config.local_optimiser
    if traits_of(mode).one_sum and (own.name != "sgd" or own.momentum or own.weight_decay):
        yield (
            f"local_optimiser={own.name} is of a site's own steps, and privacy={mode} takes none.",
            "Choose the server's (optimiser=fedadam, fedavgm), or privacy=local or privacy=none.",
        )
    if traits_of(mode).one_sum and config.local_schedule.name != "constant":
        yield (
            f"local_schedule={config.local_schedule.name} is of a site's own steps, and "
            f"privacy={mode} takes none.",
            "Choose the server's: schedule=" + config.local_schedule.name + ".",
        )
    if own.momentum and config.local_steps == 1:
        yield (
            "local_optimiser.momentum begins anew each round: with local_steps=1 it does nothing.",
            "Set local_steps to 2 or more, or choose the server's: optimiser=fedavgm.",
        )
    if config.precision != "float32" and traits_of(mode).private:
        yield (
            f"precision={config.precision} with privacy={mode}: how far a patient can move a sum "
            "is proved for float32.",
            "Leave precision out, or set privacy=none for public data.",
        )
    if name == "fedsgd" and config.local_steps != 1:
        yield (
            f"algorithm=fedsgd takes one step a round, not local_steps={config.local_steps}.",
            "Set local_steps=1, or choose algorithm=fedavg.",
        )
    if config.robust.name != "none" and config.federation.masked:
        yield (
            f"robust={config.robust.name} has to see each site's update, and secure aggregation "
            "opens nothing but their sum.",
            "Set federation.masked=false, where every site's policy.unmasked allows it.",
        )
    if config.robust.name != "none" and config.aggregation.update_bits is not None:
        yield (
            f"robust={config.robust.name} compares updates coordinate by coordinate, and "
            "aggregation.update_bits rotates them.",
            "Leave aggregation.update_bits out, or set robust=none.",
        )
    if by_day(one_of(config.evaluation.split, Split, "evaluation.split")) != bool(
        config.evaluation.since
    ):
        yield (
            "evaluation.split=date needs evaluation.since, and no other split reads it.",
            "Set evaluation.split=date evaluation.since=2027-03-31, or leave both out.",
        )
    if config.stop.metric is not None and config.evaluation.every == 0:
        yield (
            f"stop.metric={config.stop.metric} looks at evaluations, and there are none before "
            "the end.",
            "Set evaluation.every to 1 or more.",
        )
    if config.stop.metric is not None and config.averaging != "none":
        yield (
            f"averaging={config.averaging} needs to know which half is the last, and "
            f"stop.metric={config.stop.metric} does not.",
            "Set averaging=none, or stop=never.",
        )


def _foreign(section: str, values: Any) -> Iterator[tuple[str, str]]:
    owners = PARTS[section]
    for field in dataclasses.fields(values):
        if field.name == "name" or getattr(values, field.name) is None:
            continue
        having = [name for name, own in owners.items() if field.name in own]
        if values.name not in having:
            yield (
                f"{section}.{field.name} is of {' and '.join(having)}, not of {values.name}.",
                f"Choose {section}={having[0]}, or leave it out.",
            )


def _elsewhere(config: Config) -> Iterator[tuple[str, str]]:
    federation, simulated = config.federation, config.federation.name != "deployment"
    if config.task.file and federation.name != "inprocess":
        yield (
            f"task={config.task.file} is a file of yours, and federation={federation.name} runs "
            "tasks that are installed wherever they train.",
            "Make a package of it (`wardround task new NAME`), or choose federation=inprocess.",
        )
    if config.baselines and not simulated:
        yield (
            f"baselines={_words(config.baselines)} with federation=deployment: the hospitals' "
            "records are not here, and no hospital trains for itself alone.",
            "Compare on public data with federation=inprocess, or leave baselines out.",
        )
    if simulated and (federation.credentials or federation.coordinator):
        yield (
            f"federation={federation.name} has no coordinator, but "
            f"federation.{'credentials' if federation.credentials else 'coordinator'} names one.",
            "Add federation=deployment, or leave it out.",
        )
    if federation.name != "ray" and (federation.workers or federation.address):
        yield (
            f"federation.{'workers' if federation.workers else 'address'} is of federation=ray, "
            f"not of federation={federation.name}.",
            "Add federation=ray, or leave it out.",
        )
    if simulated and config.tracking.model and not config.tracking.uri:
        yield (
            "tracking.model names a registered model, but nothing is tracked.",
            "Set tracking.uri (or MLFLOW_TRACKING_URI) to an MLflow server, or leave it out.",
        )


def _words(words: list[str]) -> str:
    return f"[{','.join(words)}]"
