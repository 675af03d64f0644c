"""Reading site.yaml: YAML 1.2's plain scalars, no duplicate keys, errors that say what to do.

PyYAML follows YAML 1.1, in which `1e-5` is a string, `19:00` the number 1140 and `on` a truth
value. A policy must not depend on that, so the loader here resolves scalars as YAML 1.2's core
schema does (yaml.org/spec/1.2.2, section 10.3).
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from protocol.errors import Code, WardroundError

M = TypeVar("M", bound=BaseModel)
_LONGEST = 1 << 20


class _Loader(yaml.SafeLoader):
    """Safe: makes dictionaries, lists, strings, numbers, truth values and nothing else."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (PyYAML declares it so)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                line = key.start_mark.line + 1
                raise yaml.YAMLError(f"`{key.value}` appears twice (line {line})")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


for _tag, _pattern, _first in (
    ("null", r"(?:~|null|Null|NULL|)\Z", ["~", "n", "N", ""]),
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)\Z", list("tTfF")),
    ("int", r"[-+]?[0-9]+\Z", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?\Z",
        list("-+.0123456789"),
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)
_Loader.add_constructor("tag:yaml.org,2002:int", lambda _, node: int(node.value))
_Loader.add_constructor("tag:yaml.org,2002:float", lambda _, node: float(node.value))


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in the file. Raises WardroundError(CONFIGURATION)."""
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_LONGEST)
        value = yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader)
    except OSError as error:
        raise WardroundError(
            Code.CONFIGURATION,
            f"{path} cannot be read: {error.strerror}.",
            remedy="Name the file or its folder with --config, or make one with "
            "`wardround-site init FOLDER`.",
        ) from None
    except UnicodeDecodeError:
        raise WardroundError(
            Code.CONFIGURATION,
            f"{path} is not UTF-8 text.",
            remedy="Save it as UTF-8, which every editor can.",
        ) from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise WardroundError(
            Code.CONFIGURATION,
            f"{path} is not valid YAML at line {line}: {error.problem}.",
            remedy="Indent with spaces, and quote text that contains `: ` or `#`.",
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise WardroundError(
            Code.CONFIGURATION, f"{path} is not valid: {error}.", remedy="Keep one of them."
        ) from None
    if not isinstance(value, dict):
        raise WardroundError(
            Code.CONFIGURATION,
            f"{path} is not a mapping of keys to values.",
            remedy="Start from what `wardround-site init` writes.",
        )
    return value


def validate(model: type[M], values: dict[str, Any], source: str) -> M:
    """`values` as `model`. Raises WardroundError(CONFIGURATION) for the first wrong key, with
    its full name, what is wrong with it and what it should be."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        # A misspelt key also makes another one missing: the misspelling is what to show.
        first = min(error.errors(include_url=False), key=lambda e: e["type"] != "extra_forbidden")
    key = ".".join(str(part) for part in first["loc"])
    owner, name = _owner(model, [str(part) for part in first["loc"]])
    expected = _described(owner, name)
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, _names(owner), n=1, cutoff=0.5)
        hint = f"Did you mean `{near[0]}`? " if near else ""
        keys = ", ".join(_names(owner))
        raise WardroundError(
            Code.CONFIGURATION,
            f"{source}: `{key}` is not a known key.",
            remedy=f"{hint}Known here: {keys}.",
        )
    if first["type"] == "missing":
        raise WardroundError(
            Code.CONFIGURATION,
            f"{source}: `{key}` is missing.",
            remedy=f"Add it: {expected}" if expected else "Add it.",
        )
    if first["type"] == "value_error" and ": do: " in first["msg"]:
        problem, _, remedy = first["msg"].removeprefix("Value error, ").partition(": do: ")
        where = f"`{key}`: " if key else ""
        raise WardroundError(
            Code.CONFIGURATION, f"{source}: {where}{problem}.", remedy=f"{remedy}."
        )
    message = first["msg"].removeprefix("Value error, ")
    raise WardroundError(
        Code.CONFIGURATION,
        f"{source}: `{key}` is wrong: {message[:1].lower()}{message[1:]}.",
        remedy=f"It is {expected}" if expected else "Correct it.",
    )


def contradiction(problem: str, remedy: str) -> ValueError:
    """What a model's validator raises; `validate` shows both halves."""
    return ValueError(f"{problem}: do: {remedy}")


def _owner(model: type[BaseModel], path: list[str]) -> tuple[type[BaseModel], str]:
    """The model that holds the key at `path`, and the key's last name that a model knows."""
    name = path[0] if path else ""
    for index, part in enumerate(path):
        name = part
        field = next((f for key, f in model.model_fields.items() if part in (key, f.alias)), None)
        inner = _inner(field.annotation) if field else None
        if field is None or inner is None or index + 1 == len(path):
            break
        model = inner
        following = path[index + 1]
        known = {*model.model_fields, *(f.alias for f in model.model_fields.values())}
        if index + 2 < len(path) and following not in known:
            return _owner(model, path[index + 2 :])
    return model, name


def _inner(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if (found := _inner(argument)) is not None:
            return found
    return None


def _names(model: type[BaseModel]) -> list[str]:
    return [field.alias or key for key, field in model.model_fields.items()]


def _described(model: type[BaseModel], name: str) -> str:
    for key, field in model.model_fields.items():
        if name in (key, field.alias):
            return f"{field.description}." if field.description else ""
    return ""
