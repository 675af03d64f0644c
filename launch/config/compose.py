"""The Hydra configuration: its types, what composes it, and errors that name the nearest key."""

# ruff: noqa: RUF009 (`key` and `group` return dataclass fields)

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from launch.config import contradictions
from launch.config.keys import check_ranges, group, key, keys_of
from launch.config.study_documents import AlgorithmConfig, RobustConfig, ScheduleConfig, StopConfig
from protocol.errors import Code, WardroundError
from tasks import registry


@dataclass
class TaskConfig:
    """What is learned."""

    name: str = key(MISSING, "the task; `wardround tasks` lists them")
    options: dict[str, Any] = key({}, "choices that the task leaves open, as option: value")


@dataclass
class PrivacyConfig:
    """epsilon and delta asked for; the noise multiplier follows."""

    mode: str = key(
        MISSING,
        "who adds how much noise; the group sets it",
        choices=("none", "local", "distributed"),
    )
    epsilon: float | None = key(
        None, "what a patient may lose over all of the study, at delta", above=0, most=1e4
    )
    delta: float = key(
        1e-5, "the probability left out of epsilon, well below 1 / patients", above=0, below=0.5
    )
    clip_norm: float = key(
        1.0, "the norm to which each patient's gradient is clipped", above=0, most=1e6
    )
    sampling_rate: float = key(
        1.0, "the probability with which a patient is drawn into a step", above=0, most=1
    )


@dataclass
class OptimiserConfig:
    """The server optimiser on the flat vector."""

    name: str = key(MISSING, "the update rule; the group sets it")
    lr: float = key(1.0, "its learning rate", above=0, most=1e4)
    momentum: float = key(0.0, "of fedavgm", least=0, below=1)
    beta1: float = key(0.9, "decay of the first moment", least=0, below=1)
    beta2: float = key(0.99, "decay of the second moment", least=0, below=1)
    tau: float = key(1e-3, "adaptivity, the least divisor of a step", above=0, most=1)


@dataclass
class AggregationConfig:
    """Secure aggregation; null lets wardround choose from the roster and the model."""

    least_sites: int | None = key(
        None, "the least number of sites in a sum (null: 3, or all if fewer)", least=1, most=1000
    )
    colluding_sites: int = key(
        1, "how many sites may collude with the coordinator", least=0, most=999
    )
    spare_attempts: int | None = key(
        None, "attempts beyond one a round that epsilon pays for", least=0, most=99_000
    )
    word_bits: int | None = key(None, "bits of a masked number: 32 or 64", least=32, most=64)
    update_range: float = key(
        8.0, "bound of one coordinate of a site's weighted update", above=0, most=1e6
    )
    scale: int | None = key(
        None, "the integer that the clip norm becomes (distributed)", least=1, most=2**40
    )


@dataclass
class EvaluationConfig:
    """When models are scored, on which patients, and how the histograms leave."""

    every: int = key(
        0, "evaluate after every so many rounds; 0: at the end only", least=0, most=100_000
    )
    bins: int | None = key(None, "bins of the score histogram", least=2, most=4096)
    release: str = key(
        "noised", "noised and debited, or exact and not covered", choices=("noised", "exact")
    )
    split: str = key(
        "patients",
        "who evaluates: by the site's own hash, or by the column `split` of the cohort",
        choices=("patients", "column"),
    )
    fraction: float = key(0.3, "of patients, who evaluate", above=0, below=1)


@dataclass
class FederationConfig:
    """Where the sites are."""

    name: str = key(MISSING, "inprocess, ray or deployment; the group sets it")
    masked: bool = key(True, "whether sums are masked (secure aggregation)")
    coordinator: str | None = key(None, "deployment: HOST:PORT instead of the credentials' own")
    credentials: str | None = key(None, "deployment: the file that the operator made")
    on_interrupt: str = key(
        "cancel",
        "deployment: what Ctrl-C does with the study: cancel it for good, or leave it running, "
        "to be followed again with --resume",
        choices=("cancel", "leave"),
    )
    workers: int | None = key(
        None, "ray: processes that play the sites (null: one a core)", least=1, most=4096
    )
    address: str | None = key(None, "ray: a running cluster (auto, or its address); null: our own")


@dataclass
class TrackingConfig:
    """MLflow."""

    uri: str | None = key(None, "an http(s) address of an MLflow server; null: no tracking")
    experiment: str = key("wardround", "the experiment's name there")
    model: str | None = key(None, "the registered model's name (null: the task's)")


@dataclass
class Config:
    """Everything `wardround run` takes."""

    title: str = key(MISSING, "what hospitals and reviewers read first")
    purpose: str = key("research", "what the data is used for; a policy names what it allows")
    contact: str = key(MISSING, "whom a hospital asks")
    rounds: int = key(20, "rounds of training", least=1, most=100_000)
    local_steps: int = key(
        1, "steps at a site in a round (1 in mode distributed)", least=1, most=100_000
    )
    local_lr: float = key(0.5, "learning rate at the sites", above=0, most=1e4)
    server_lr: float = key(1.0, "learning rate of fedavg and fedavgm", above=0, most=1e4)
    averaging: str = key(
        "none",
        "release the last iterate, or the mean of the last half of them",
        choices=("none", "last_half"),
    )
    seed: int = key(0, "of initial weights, and of sampling in mode none", least=0, below=2**63)
    output: str = key("outputs", "the folder that gets one folder a study")
    baselines: list[str] = key(
        [],
        "trained beside the study with its budget: each hospital alone, all data pooled",
        choices=("local", "pooled"),
    )
    task: TaskConfig = group(TaskConfig, "what is learned")
    privacy: PrivacyConfig = group(PrivacyConfig, "who adds how much noise")
    algorithm: AlgorithmConfig = group(AlgorithmConfig, "what a site does with its steps")
    optimiser: OptimiserConfig = group(OptimiserConfig, "what the server makes of a sum")
    schedule: ScheduleConfig = group(ScheduleConfig, "the server's learning rate over rounds")
    stop: StopConfig = group(StopConfig, "early stopping")
    robust: RobustConfig = group(RobustConfig, "instead of the mean, where updates are seen")
    aggregation: AggregationConfig = group(AggregationConfig, "secure aggregation")
    evaluation: EvaluationConfig = group(EvaluationConfig, "how models are scored")
    federation: FederationConfig = group(FederationConfig, "where the sites are")
    tracking: TrackingConfig = group(TrackingConfig, "MLflow")


def load(overrides: Sequence[str]) -> Config:
    """Overrides such as `privacy.epsilon=1` -> the resolved configuration, checked.

    Raises WardroundError(CONFIGURATION) naming the key at fault and the nearest valid one, a value
    out of its range, or two options that contradict each other.
    """
    config = _composed(overrides)
    check_ranges(config)
    contradictions.refuse(config)
    return config


def _composed(overrides: Sequence[str]) -> Config:
    _register()
    try:
        with initialize_config_module("conf", version_base="1.3"):
            composed = compose("config", overrides=_free(overrides))
        OmegaConf.resolve(composed)
        config = OmegaConf.to_object(composed)
    except (HydraException, OmegaConfBaseException) as error:
        raise _explained(error, overrides) from None
    if not isinstance(config, Config):
        raise WardroundError(Code.INTERNAL, "The configuration has another type than expected.")
    return config


def _register() -> None:
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    for name in registry.plugged():
        store.store(group="task", name=name, node={"name": name})


def _free(overrides: Sequence[str]) -> list[str]:
    """A task's options are not keys of ours: they may be set without Hydra's `+`."""
    return [f"++{o}" if o.startswith("task.options.") else o for o in overrides]


def hydra_yaml(overrides: Sequence[str], *, whole: bool) -> str:
    """Hydra's own part of the configuration as YAML; `whole` with ours before it."""
    _register()
    try:
        with initialize_config_module("conf", version_base="1.3"):
            composed = compose("config", overrides=_free(overrides), return_hydra_config=True)
        return OmegaConf.to_yaml(composed if whole else OmegaConf.masked_copy(composed, "hydra"))
    except (HydraException, OmegaConfBaseException) as error:
        raise _explained(error, overrides) from None


def swept(overrides: Sequence[str]) -> list[tuple[str, ...]]:
    """Hydra's grammar of sweeps: `a=1,2`, `a=range(5)`, `a=choice(x,y)` -> every combination, the
    last key moving fastest.

    Raises WardroundError(CONFIGURATION) where one cannot be read or is an open interval.
    """
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
        columns: list[list[str]] = []
        for override, text in zip(parsed, overrides, strict=True):
            if not override.is_sweep_override():
                columns.append([text])
            elif override.is_discrete_sweep():
                key = override.get_key_element()
                columns.append([f"{key}={value}" for value in override.sweep_string_iterator()])
            else:
                raise WardroundError(
                    Code.CONFIGURATION,
                    f"{text} is an interval, which has no list of values.",
                    remedy="Name the values: key=1,2,3, key=range(5) or key=choice(a,b).",
                )
    except HydraException as error:
        raise _explained(error, overrides) from None
    return list(itertools.product(*columns))


def groups() -> dict[str, list[str]]:
    """Every group with its choices, the tasks of plug-ins included."""
    found: dict[str, list[str]] = {}
    for folder in resources.files("conf").iterdir():
        if not folder.is_dir():
            continue
        names = [file.name[:-5] for file in folder.iterdir() if file.name.endswith(".yaml")]
        if names and folder.name != "recipe":
            found[folder.name] = sorted(names)
    found["task"] = sorted({*found["task"], *registry.plugged()})
    return dict(sorted(found.items()))


def plain(config: Config) -> dict[str, Any]:
    """The configuration as plain dictionaries, for files and tracking."""
    container = OmegaConf.to_container(OmegaConf.structured(config))
    return (
        {str(key): value for key, value in container.items()} if isinstance(container, dict) else {}
    )


def from_yaml(text: str, overrides: Sequence[str] = ()) -> Config:
    """`plain` written as YAML -> the configuration, with some keys changed.

    Raises WardroundError(CONFIGURATION)."""
    try:
        changed = OmegaConf.from_dotlist(list(overrides))
        merged = OmegaConf.merge(OmegaConf.structured(Config), OmegaConf.create(text), changed)
        config = OmegaConf.to_object(merged)
    except (OmegaConfBaseException, ValueError, YAMLError) as error:
        raise _explained(error, overrides) from None
    if not isinstance(config, Config):
        raise WardroundError(Code.INTERNAL, "The configuration has another type than expected.")
    return config


def keys() -> list[str]:
    """Every key that can be overridden, dotted."""
    return [found.name for found in keys_of(Config)]


def _explained(error: Exception, overrides: Sequence[str]) -> WardroundError:
    """Hydra's message, shortened to its first sentence, with the nearest valid key or option."""
    text = str(error.__cause__ or error).strip()
    known = keys()
    hints = []
    for override in overrides:
        key = re.sub(r"^[+~]+", "", override.partition("=")[0])
        if key and key not in known and not override.startswith("hydra"):
            near = difflib.get_close_matches(key, known, n=1)
            hints.append(
                f"There is no key {key!r}." + (f" Did you mean {near[0]}?" if near else "")
            )
    first = text.splitlines()[0] if text else "The configuration is not valid."
    if named := re.search(r"^\s*full_key: (\S+)$", text, re.MULTILINE):
        first = f"{named.group(1)}: {first}"
    choices = re.search(r"Available options in '([^']*)':\n((?:\s+\S+\n?)+)", str(error))
    if choices:
        options = choices.group(2).split()
        asked = next((o.split("=", 1)[1] for o in overrides if o.startswith(choices.group(1))), "")
        near = difflib.get_close_matches(asked, options, n=1)
        hints = [
            (f"Did you mean {near[0]}? " if near else "")
            + f"{choices.group(1)} can be: {', '.join(options)}."
        ]
    return WardroundError(
        Code.CONFIGURATION,
        first if not hints or choices else " ".join(hints),
        remedy=hints[0] if choices else "`wardround run --info` shows every key.",
    )
