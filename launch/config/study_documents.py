"""From the configuration groups algorithm, schedule, stop and robust to parts of a study."""

from __future__ import annotations

import dataclasses
from typing import Any

from pydantic import TypeAdapter

from launch.config.schema import PARTS, Config
from protocol.study.algorithms import Local, Robust, Schedule, Stop


def local_of(config: Config) -> Local:
    """The study's `optimisation.local`. These four raise pydantic's ValidationError."""
    chosen = _chosen("algorithm", config.algorithm)
    return _LOCAL.validate_python(
        chosen | {"name": "fedavg"} if chosen["name"] == "fedsgd" else chosen
    )


def schedule_of(config: Config) -> Schedule:
    """The study's `optimisation.schedule`."""
    return _SCHEDULE.validate_python(_chosen("schedule", config.schedule))


def stop_of(config: Config) -> Stop | None:
    """The study's `optimisation.stop`."""
    if config.stop.metric is None:
        return None
    return Stop.model_validate(dataclasses.asdict(config.stop))


def robust_of(config: Config) -> Robust | None:
    """The study's `aggregation.robust`."""
    if config.robust.name == "none":
        return None
    return _ROBUST.validate_python(_chosen("robust", config.robust))


_LOCAL: TypeAdapter[Local] = TypeAdapter(Local)
_SCHEDULE: TypeAdapter[Schedule] = TypeAdapter(Schedule)
_ROBUST: TypeAdapter[Robust] = TypeAdapter(Robust)


def _chosen(section: str, values: Any) -> dict[str, Any]:
    own = {name: getattr(values, name) for name in PARTS[section][values.name]}
    return {"name": values.name} | {k: v for k, v in own.items() if v is not None}
