"""The keys of algorithm, schedule, stop and robust, and the documents that a study makes of them.

A key that its algorithm does not have is refused, never ignored.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from launch.config.keys import key
from protocol.study.algorithms import Local, Robust, Schedule, Stop

if TYPE_CHECKING:
    from launch.config.compose import Config

_PARTS: dict[str, dict[str, tuple[str, ...]]] = {
    "algorithm": {
        "fedavg": (),
        "fedsgd": (),
        "fedprox": ("mu",),
        "scaffold": (),
        "fedbn": (),
        "ditto": ("attraction", "steps", "lr", "evaluated"),
    },
    "schedule": {
        "constant": ("warmup",),
        "cosine": ("warmup", "floor"),
        "step": ("warmup", "every", "factor"),
    },
    "robust": {"none": (), "median": (), "trimmed_mean": ("byzantine",), "krum": ("byzantine",)},
}
"""Section -> name -> the keys that belong to it."""


@dataclass
class AlgorithmConfig:
    """What a site does with its steps of a round."""

    name: str = key("fedavg", "the algorithm; the group sets it", choices=(*_PARTS["algorithm"],))
    mu: float | None = key(None, "fedprox: pull to the model of the round", above=0, most=1e4)
    attraction: float | None = key(
        None, "ditto: pull of a site's own model to the shared one (lambda)", least=0, most=1e4
    )
    steps: int | None = key(None, "ditto: steps of the own model a round", least=1, most=100_000)
    lr: float | None = key(None, "ditto: learning rate of the own model", above=0, most=1e4)
    evaluated: str | None = key(
        None, "ditto: whose scores are pooled", choices=("shared", "personal")
    )


@dataclass
class ScheduleConfig:
    """The server's learning rate from round to round."""

    name: str = key("constant", "its course; the group sets it", choices=(*_PARTS["schedule"],))
    warmup: int | None = key(None, "rounds of linear rise before it", least=0, most=100_000)
    floor: float | None = key(None, "cosine: what is left at the end", least=0, most=1)
    every: int | None = key(None, "step: rounds between two falls", least=1, most=100_000)
    factor: float | None = key(None, "step: what each fall multiplies with", above=0, most=1)


@dataclass
class StopConfig:
    """Early stopping on the pooled metric that is released anyway."""

    metric: str | None = key(
        None,
        "stop when this no longer improves (null: never)",
        choices=("auc", "average_precision", "accuracy", "brier", "log_loss"),
    )
    patience: int = key(
        5, "evaluations in a row without improvement, then stop", least=1, most=100_000
    )
    least: float = key(0.0, "what counts as an improvement is more than this", least=0, most=1e4)


@dataclass
class RobustConfig:
    """Instead of the mean, where updates may be seen: federation.masked=false at every site."""

    name: str = key("none", "the rule; the group sets it", choices=(*_PARTS["robust"],))
    byzantine: int | None = key(
        None, "trimmed_mean, krum: sites that may send anything", least=0, most=499
    )


def contradictions(config: Config) -> Iterator[tuple[str, str]]:
    """(problem, remedy) of keys that do not go together."""
    for section in _PARTS:
        yield from _foreign(section, getattr(config, section))
    name, mode = config.algorithm.name, config.privacy.mode
    if name in ("fedprox", "scaffold", "fedbn") and mode == "distributed":
        yield (
            f"algorithm={name} works on several local steps, and privacy=distributed takes one "
            "gradient a round.",
            "Choose privacy=local (or privacy=none), or algorithm=fedavg.",
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
    own = {name: getattr(values, name) for name in _PARTS[section][values.name]}
    return {"name": values.name} | {k: v for k, v in own.items() if v is not None}


def _foreign(section: str, values: Any) -> Iterator[tuple[str, str]]:
    owners = _PARTS[section]
    for field in dataclasses.fields(values):
        if field.name == "name" or getattr(values, field.name) is None:
            continue
        having = [name for name, own in owners.items() if field.name in own]
        if values.name not in having:
            yield (
                f"{section}.{field.name} is of {' and '.join(having)}, not of {values.name}.",
                f"Choose {section}={having[0]}, or leave it out.",
            )
