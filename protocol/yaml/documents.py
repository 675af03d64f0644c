"""Reads YAML documents: plain scalars of YAML 1.2, no duplicate keys, errors with remedies.

PyYAML follows YAML 1.1, in which `1e-5` is a string, `19:00` the number 1140 and `on` a truth
value. A policy must not depend on that, so the loader here resolves scalars as YAML 1.2's core
schema does (yaml.org/spec/1.2.2, section 10.3).
"""

from __future__ import annotations

import difflib
import json
import re
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from protocol.errors import Code, WardroundError

M = TypeVar("M", bound=BaseModel)
_MAX_LENGTH = 1 << 20
"""Characters of a document that are read."""
_MAX_VALUES = 100_000
"""Values in a document, those behind an alias counted wherever it stands."""


class _FaultError(yaml.YAMLError):
    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.remedy = remedy


class _Loader(yaml.SafeLoader):
    """Makes dictionaries, lists, strings, numbers, truth values and nothing else."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (PyYAML declares it so)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                line = key.start_mark.line + 1
                raise _FaultError(f"`{key.value}` appears twice (line {line})", "Keep one of them.")
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


def read_yaml(path: Path, remedy: str) -> dict[str, Any]:
    """Returns the mapping in the file. Raises WardroundError(CONFIGURATION).

    remedy: how to come by such a file, for who has none.
    """
    try:
        with path.open(encoding="utf-8") as file:
            value = yaml.load(file.read(_MAX_LENGTH), Loader=_Loader)  # noqa: S506 (a SafeLoader)
        if _values(value, {}, frozenset()) > _MAX_VALUES:
            raise _FaultError("its aliases make it too large", "Write less behind each `*`.")
        if isinstance(value, dict):
            return value
        problem = "is not a mapping of keys to values"
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        problem, remedy = "is not UTF-8 text", "Save it as UTF-8, which every editor can."
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        problem = f"is not valid YAML at line {line}: {error.problem}"
        remedy = "Indent with spaces, and quote text that contains `: ` or `#`."
    except _FaultError as error:
        problem, remedy = f"is not valid: {error}", error.remedy
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        problem = f"is not valid YAML: {error}"
    raise WardroundError(Code.CONFIGURATION, f"{path} {problem}.", remedy=remedy)


def _values(value: Any, counted: dict[int, int], around: frozenset[int]) -> int:
    """How many values there are, each alias written out. Raises _FaultError for one that contains
    itself."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) in around:
        raise _FaultError("a value contains itself", "Write it out in place of its `*`.")
    if id(value) not in counted:
        inside = around | {id(value)}
        children = value.values() if isinstance(value, dict) else value
        counted[id(value)] = 1 + sum(_values(child, counted, inside) for child in children)
    return counted[id(value)]


def validate(model: type[M], values: dict[str, Any], source: str) -> M:
    """Returns `values` as `model`. Raises WardroundError(CONFIGURATION) for the first wrong key,
    with its full name, what is wrong with it and what it should be."""
    try:
        return model.model_validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        # A misspelt key also makes another one missing: the misspelling is what to show.
        first = min(error.errors(include_url=False), key=lambda e: e["type"] != "extra_forbidden")
    path, message = [str(part) for part in first["loc"]], first["msg"].removeprefix("Value error, ")
    key, (owner, name) = ".".join(path), _owner(model, path)
    expected = _description(owner, name)
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, _names(owner), n=1, cutoff=0.5)
        hint = f"Did you mean `{near[0]}`? " if near else ""
        problem, remedy = f"`{key}` is not a known key", f"Known here: {', '.join(_names(owner))}."
        remedy = hint + remedy
    elif first["type"] == "missing":
        problem, remedy = f"`{key}` is missing", f"Add it: {expected}" if expected else "Add it."
    elif first["type"] == "value_error" and ": do: " in message:
        problem, _, remedy = f"{message}.".partition(": do: ")
        problem = f"`{key}`: {problem}" if key else problem
    else:
        problem = f"`{key}` is wrong: {message[:1].lower()}{message[1:]}"
        remedy = f"It is {expected}" if expected else "Correct it."
    raise WardroundError(Code.CONFIGURATION, f"{source}: {problem}.", remedy=remedy)


def contradiction(problem: str, remedy: str) -> ValueError:
    """Returns what a model's validator raises; `validate` shows both parts."""
    return ValueError(f"{problem}: do: {remedy}")


def _owner(model: type[BaseModel], path: list[str]) -> tuple[type[BaseModel], str]:
    """Returns the model that holds the key at `path`, and the last part of `path` in a model."""
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
        if (inner := _inner(argument)) is not None:
            return inner
    return None


def _names(model: type[BaseModel]) -> list[str]:
    return [field.alias or key for key, field in model.model_fields.items()]


def _description(model: type[BaseModel], name: str) -> str:
    for key, field in model.model_fields.items():
        if name in (key, field.alias):
            return f"{field.description}." if field.description else ""
    return ""
