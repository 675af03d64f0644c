"""From the configuration and a task to the documents and words of a study."""

from __future__ import annotations

import dataclasses
from typing import Any, get_args

from pydantic import TypeAdapter

from launch.config.schema import PARTS, Config
from protocol.errors import Code, WardroundError
from protocol.study.algorithms import (
    LocalAlgorithm,
    LocalOptimiser,
    RobustRule,
    Schedule,
    StopRule,
)
from protocol.study.gates import Gates
from protocol.study.privacy_mode import Mode
from protocol.study.study import Release
from protocol.study.subgroups import Partition
from tasks.base import Task
from tasks.schema import Schema


def local_of(config: Config) -> LocalAlgorithm:
    """The study's `optimisation.local`. These raise pydantic's ValidationError."""
    chosen = _chosen("algorithm", config.algorithm)
    return _LOCAL.validate_python(
        chosen | {"name": "fedavg"} if chosen["name"] == "fedsgd" else chosen
    )


def local_optimiser_of(config: Config) -> LocalOptimiser:
    """The study's `optimisation.local_optimiser`."""
    return _LOCAL_OPTIMISER.validate_python(_chosen("local_optimiser", config.local_optimiser))


def local_schedule_of(config: Config) -> Schedule:
    """The study's `optimisation.local_schedule`."""
    return _SCHEDULE.validate_python(_chosen("local_schedule", config.local_schedule))


def schedule_of(config: Config) -> Schedule:
    """The study's `optimisation.schedule`."""
    return _SCHEDULE.validate_python(_chosen("schedule", config.schedule))


def stop_of(config: Config) -> StopRule | None:
    """The study's `optimisation.stop`."""
    if config.stop.metric is None:
        return None
    return StopRule.model_validate(dataclasses.asdict(config.stop))


def gates_of(config: Config, task: Task) -> Gates | None:
    """The study's `gates`; None where the configuration states none. Raises
    WardroundError(CONFIGURATION) where no model of the task could ever pass them."""
    stated = config.gates
    if stated.audit and task.public_files() is None:
        raise WardroundError(
            Code.CONFIGURATION,
            f"gates.audit=true: an audit takes public data, and task {task.name} has none, so that "
            "nobody could ever approve its model.",
            remedy="Give the task `public_sites` (generated data will do), or leave the audit to "
            "the hospitals (`wardround-site audit privacy STUDY`) and set gates.audit=false.",
        )
    asked = stated.metrics or stated.gaps or stated.card or stated.audit
    if not asked and stated.epsilon is None:
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


def subgroups_of(config: Config, schema: Schema) -> tuple[Partition, ...]:
    """The study's `evaluation.subgroups`. Raises WardroundError(CONFIGURATION), and pydantic's
    ValidationError."""
    columns = [
        _PARTITION.validate_python(_by_column(name, given, schema))
        for name, given in config.evaluation.subgroups.items()
    ]
    hospitals = [
        _PARTITION.validate_python(
            {
                "kind": "hospitals",
                "attribute": name,
                "classes": [
                    {"level": level, "sites": s} for level, s in _mapping(name, of).items()
                ],
            }
        )
        for name, of in config.evaluation.hospitals.items()
    ]
    return (*columns, *hospitals)


def _by_column(name: str, given: Any, schema: Schema) -> dict[str, Any]:
    """A partition by a column, from what was written of it: nothing, words or numbers."""
    column = next((one for one in schema.columns if one.name == name), None)
    if given is None and column is not None and column.kind == "category":
        given = column.categories
    if not isinstance(given, list | tuple) or not given:
        raise WardroundError(
            Code.CONFIGURATION,
            f"evaluation.subgroups.{name} says neither values nor bands.",
            remedy=f"Give a list: {name}: [40, 65] for bands of a number, {name}: [a, b] for the "
            "values of a category; null stands for the categories of a category of the task.",
        )
    numeric = all(isinstance(one, int | float) and not isinstance(one, bool) for one in given)
    if numeric and (column is None or column.kind == "number"):
        return {"kind": "bands", "column": name, "cuts": [float(one) for one in given]}
    values = [str(one) for one in given]
    if column is not None and column.kind == "category":
        strange = [value for value in values if value not in column.categories]
        if strange and not column.other:
            raise WardroundError(
                Code.CONFIGURATION,
                f"evaluation.subgroups.{name} names {strange[0]!r}, which the task does not know.",
                remedy=f"Its categories are: {', '.join(column.categories)}.",
            )
    return {"kind": "categories", "column": name, "values": values}


def _mapping(name: str, given: Any) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise WardroundError(
            Code.CONFIGURATION,
            f"evaluation.hospitals.{name} is no mapping from a class to sites.",
            remedy=f"Write {name}: {{acme: [a, b, c], other: [d, e, f]}}.",
        )
    return given


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


_PARTITION: TypeAdapter[Partition] = TypeAdapter(Partition)
_LOCAL: TypeAdapter[LocalAlgorithm] = TypeAdapter(LocalAlgorithm)
_LOCAL_OPTIMISER: TypeAdapter[LocalOptimiser] = TypeAdapter(LocalOptimiser)
_SCHEDULE: TypeAdapter[Schedule] = TypeAdapter(Schedule)
_ROBUST: TypeAdapter[RobustRule] = TypeAdapter(RobustRule)


def _chosen(section: str, values: Any) -> dict[str, Any]:
    own = {name: getattr(values, name) for name in PARTS[section][values.name]}
    return {"name": values.name} | {k: v for k, v in own.items() if v is not None}
