"""The Hydra configuration: what composes it, and errors that name the nearest key."""

from __future__ import annotations

import difflib
import itertools
import json
import re
from collections.abc import Sequence
from importlib import resources
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from launch.config import contradictions
from launch.config.keys import check_ranges, keys_of
from launch.config.schema import Config
from protocol.errors import Code, WardroundError
from tasks import registry

_FIRST = ("privacy.epsilon", "privacy.delta")
"""Keys whose last word alone is what most people mean by it."""
_NAMED_BY_USERS = (
    "task.options.",
    "evaluation.subgroups",
    "evaluation.hospitals",
    "gates.metrics",
    "gates.gaps",
)
"""Keys below which users name what there is: they may be set without Hydra's `+`."""


def load(overrides: Sequence[str]) -> Config:
    """Overrides such as `privacy.epsilon=1` -> the resolved configuration, checked.

    Raises WardroundError(CONFIGURATION) naming the key at fault and the nearest valid one, a value
    out of its range, or two options that contradict each other.
    """
    config = _composed(_named(overrides))
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
    return _typed(config)


def _typed(config: Any) -> Config:
    if not isinstance(config, Config):
        raise WardroundError(
            Code.INTERNAL,
            "The configuration has another type than expected.",
            remedy="Report it with the words that you gave: no words should cause it.",
        )
    return config


def _register() -> None:
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    for name in registry.plugin_tasks():
        store.store(group="task", name=name, node={"name": name})


def _named(overrides: Sequence[str]) -> list[str]:
    """`task=FILE.py` -> the name of the task in that file, which is registered, and `task.file`."""
    words = []
    for word in overrides:
        key, _, where = word.partition("=")
        if key == "task" and (where.endswith(".py") or ".py:" in where):
            words += [f"task={registry.register_file(where)}", f"task.file={json.dumps(where)}"]
        else:
            words.append(word)
    return words


def _free(overrides: Sequence[str]) -> list[str]:
    """A task's options, columns and classes of hospitals are not keys of ours: they may be set
    without Hydra's `+`."""
    return [f"++{o}" if o.startswith(_NAMED_BY_USERS) else o for o in overrides]


def hydra_yaml(overrides: Sequence[str], *, whole: bool) -> str:
    """Hydra's own part of the configuration as YAML; `whole` with ours before it."""
    overrides = _named(overrides)
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
    options: dict[str, list[str]] = {}
    for folder in resources.files("conf").iterdir():
        if not folder.is_dir():
            continue
        names = [file.name[:-5] for file in folder.iterdir() if file.name.endswith(".yaml")]
        if names and folder.name != "recipe":
            options[folder.name] = sorted(names)
    options["task"] = sorted({*options["task"], *registry.plugin_tasks()})
    return dict(sorted(options.items()))


def plain(config: Config) -> dict[str, Any]:
    """The configuration as plain dictionaries, for files and tracking."""
    container = OmegaConf.to_container(OmegaConf.structured(config))
    return (
        {str(key): value for key, value in container.items()} if isinstance(container, dict) else {}
    )


def from_yaml(text: str, overrides: Sequence[str] = ()) -> Config:
    """`plain` written as YAML -> the configuration, with some keys changed; the task of a file is
    registered.

    Raises WardroundError(CONFIGURATION)."""
    try:
        changed = OmegaConf.from_dotlist(list(overrides))
        merged = OmegaConf.merge(OmegaConf.structured(Config), OmegaConf.create(text), changed)
        config = OmegaConf.to_object(merged)
    except (OmegaConfBaseException, ValueError, YAMLError) as error:
        raise _explained(error, overrides) from None
    typed = _typed(config)
    if typed.task.file:
        registry.register_file(typed.task.file)
    return typed


def keys() -> list[str]:
    """Every key that can be overridden, dotted."""
    return [key.name for key in keys_of(Config)]


def _explained(error: Exception, overrides: Sequence[str]) -> WardroundError:
    """Hydra's message, shortened to its first sentence, with the nearest valid key or option."""
    text = str(error.__cause__ or error).strip()
    known = keys()
    hints = []
    for override in overrides:
        key = re.sub(r"^[+~]+", "", override.partition("=")[0])
        if key and key not in known and not override.startswith("hydra"):
            ends = [one for one in _FIRST if one.endswith(f".{key}")]
            near = ends or difflib.get_close_matches(key, known, n=1)
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
