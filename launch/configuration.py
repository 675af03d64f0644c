"""The Hydra configuration: its types, what composes it, and errors that name the nearest key."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from protocol.errors import Code, WardroundError
from tasks import registry


@dataclass
class TaskConfig:
    """What is learned; `wardround tasks` lists the names."""

    name: str = MISSING
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class PrivacyConfig:
    """epsilon and delta asked for; the noise multiplier follows, or is given instead."""

    mode: str = MISSING
    epsilon: float | None = None
    delta: float = 1e-5
    clip_norm: float = 1.0
    sampling_rate: float = 1.0


@dataclass
class OptimiserConfig:
    """The server optimiser on the flat vector."""

    name: str = MISSING
    lr: float = 1.0
    momentum: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3


@dataclass
class AggregationConfig:
    """Secure aggregation. None lets wardround choose from the roster and the model."""

    least_sites: int | None = None
    colluding_sites: int = 1
    spare_attempts: int | None = None
    word_bits: int | None = None
    update_range: float = 8.0
    scale: int | None = None


@dataclass
class EvaluationConfig:
    """When models are scored, on which patients, and how the histograms leave."""

    every: int = 0
    bins: int | None = None
    release: str = "noised"
    split: str = "patients"
    fraction: float = 0.3


@dataclass
class FederationConfig:
    """inprocess, or a deployment's address (HOST:PORT) and credentials file."""

    name: str = MISSING
    masked: bool = True
    coordinator: str | None = None
    credentials: str | None = None


@dataclass
class TrackingConfig:
    """MLflow's tracking URI (null: no tracking) and experiment; `model` names the registry's."""

    uri: str | None = None
    experiment: str = "wardround"
    model: str | None = None


@dataclass
class Config:
    """Everything `wardround run` takes."""

    title: str = MISSING
    purpose: str = "research"
    contact: str = MISSING
    rounds: int = 20
    local_steps: int = 1
    local_lr: float = 0.5
    server_lr: float = 1.0
    averaging: str = "none"
    seed: int = 0
    output: str = "outputs"
    task: TaskConfig = field(default_factory=TaskConfig)
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    aggregation: AggregationConfig = field(default_factory=AggregationConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    federation: FederationConfig = field(default_factory=FederationConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)


def load(overrides: Sequence[str]) -> Config:
    """Overrides such as `privacy.epsilon=1` -> the resolved configuration.

    Raises WardroundError(CONFIGURATION) naming the key at fault and the nearest valid one.
    """
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    for name in registry.plugged():
        store.store(group="task", name=name, node={"name": name})
    try:
        with initialize_config_module("conf", version_base="1.3"):
            composed = compose("config", overrides=list(overrides))
        OmegaConf.resolve(composed)
        config = OmegaConf.to_object(composed)
    except (HydraException, OmegaConfBaseException) as error:
        raise _explained(error, overrides) from None
    if not isinstance(config, Config):
        raise WardroundError(Code.INTERNAL, "The configuration has another type than expected.")
    return config


def plain(config: Config) -> dict[str, Any]:
    """The configuration as plain dictionaries, for files and tracking."""
    container = OmegaConf.to_container(OmegaConf.structured(config))
    return (
        {str(key): value for key, value in container.items()} if isinstance(container, dict) else {}
    )


def keys(config: DictConfig | None = None, prefix: str = "") -> list[str]:
    """Every key that can be overridden, dotted."""
    node = OmegaConf.structured(Config) if config is None else config
    found = []
    for key in node:
        value = OmegaConf.is_missing(node, key) or node._get_node(key)
        dotted = f"{prefix}{key!s}"
        found.append(dotted)
        if isinstance(value, DictConfig):
            found += keys(value, f"{dotted}.")
    return found


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
        remedy=hints[0] if choices else "`wardround run --help` shows every key.",
    )
