"""From the configuration and a task to the documents and words of a study."""

from __future__ import annotations

import dataclasses
from typing import Any, get_args

from pydantic import TypeAdapter

from launch.config.schema import PARTS, Config
from protocol.errors import Code, WardroundError
from protocol.study.algorithms import LocalAlgorithm, RobustRule, Schedule, StopRule
from protocol.study.gates import Gates
from protocol.study.privacy_mode import Mode
from protocol.study.study import Release


def local_of(config: Config) -> LocalAlgorithm:
    """The study's `optimisation.local`. These raise pydantic's ValidationError."""
    chosen = _chosen("algorithm", config.algorithm)
    return _LOCAL.validate_python(
        chosen | {"name": "fedavg"} if chosen["name"] == "fedsgd" else chosen
    )


def schedule_of(config: Config) -> Schedule:
    """The study's `optimisation.schedule`."""
    return _SCHEDULE.validate_python(_chosen("schedule", config.schedule))


def stop_of(config: Config) -> StopRule | None:
    """The study's `optimisation.stop`."""
    if config.stop.metric is None:
        return None
    return StopRule.model_validate(dataclasses.asdict(config.stop))


def gates_of(config: Config) -> Gates | None:
    """The study's `gates`; None where the configuration states none."""
    stated = config.gates
    if not stated.metrics and stated.epsilon is None and not stated.card:
        return None
    return Gates.model_validate(dataclasses.asdict(stated))


def robust_of(config: Config) -> RobustRule | None:
    """The study's `aggregation.robust`."""
    if config.robust.name == "none":
        return None
    return _ROBUST.validate_python(_chosen("robust", config.robust))


def mode_of(config: Config) -> Mode:
    """The study's `privacy.mode`. Raises WardroundError(CONFIGURATION)."""
    mode: Mode = one_of(config.privacy.mode, Mode, "privacy.mode")
    return mode


def release_of(config: Config) -> Release:
    """The study's `evaluation.release`. Raises WardroundError(CONFIGURATION)."""
    release: Release = one_of(config.evaluation.release, Release, "evaluation.release")
    return release


def one_of(value: Any, literal: Any, key: str) -> Any:
    """The value, as one of a Literal's. Raises WardroundError(CONFIGURATION)."""
    allowed = get_args(literal)
    if value not in allowed:
        raise WardroundError(
            Code.CONFIGURATION,
            f"{key} is {value!r}.",
            remedy=f"It can be: {', '.join(map(str, allowed))}.",
        )
    return value


_LOCAL: TypeAdapter[LocalAlgorithm] = TypeAdapter(LocalAlgorithm)
_SCHEDULE: TypeAdapter[Schedule] = TypeAdapter(Schedule)
_ROBUST: TypeAdapter[RobustRule] = TypeAdapter(RobustRule)


def _chosen(section: str, values: Any) -> dict[str, Any]:
    own = {name: getattr(values, name) for name in PARTS[section][values.name]}
    return {"name": values.name} | {k: v for k, v in own.items() if v is not None}
