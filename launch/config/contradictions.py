"""Options that contradict each other, refused before anything starts.

Each rule is one sentence about two keys. What a single value may be is said beside its key
(`launch.config.compose`); what needs the roster or the model is said by the study itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from launch.config import study_documents
from protocol.errors import Code, WardroundError

if TYPE_CHECKING:
    from launch.config.compose import Config


def refuse(config: Config) -> None:
    """Raises WardroundError(CONFIGURATION) for the first contradiction found."""
    for problem, remedy in (
        *_privacy(config),
        *_elsewhere(config),
        *study_documents.contradictions(config),
    ):
        raise WardroundError(Code.CONFIGURATION, problem, remedy=remedy)


def _privacy(config: Config) -> Iterator[tuple[str, str]]:
    privacy, aggregation = config.privacy, config.aggregation
    if privacy.mode == "none" and privacy.epsilon is not None:
        yield (
            "privacy=none adds no noise and can claim no epsilon.",
            "Choose privacy=distributed or privacy=local, or leave privacy.epsilon out.",
        )
    if privacy.mode != "none" and privacy.epsilon is None:
        yield (
            f"privacy={privacy.mode} needs an epsilon.",
            "Set privacy.epsilon, or privacy=none for public data.",
        )
    if privacy.mode == "none" and config.evaluation.release == "noised":
        yield (
            "privacy=none cannot have a noised evaluation: nothing else would be noised.",
            "Set evaluation=exact, or choose privacy=distributed or privacy=local.",
        )
    if privacy.mode == "distributed" and config.local_steps != 1:
        yield (
            "privacy=distributed takes one clipped sum a round, not "
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


def _elsewhere(config: Config) -> Iterator[tuple[str, str]]:
    federation, simulated = config.federation, config.federation.name != "deployment"
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
