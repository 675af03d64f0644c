"""One key of the configuration: its type, default, meaning, and the values that it may have."""

from __future__ import annotations

import dataclasses
import difflib
import math
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any

from protocol.errors import Code, WardroundError

MISSING_TEXT = "???"
"""How a configuration marks a value that a group or the user has to give (OmegaConf)."""


@dataclass(frozen=True)
class KeyMeaning:
    """What a key means, and the values that it may have: a range with closed (`min`, `max`) or open
    (`above`, `below`) ends, or one of `choices`."""

    text: str
    min: float | None = None
    above: float | None = None
    max: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def range(self) -> str:
        """The values as people read them; empty where every value of the type will do."""
        if self.choices:
            return " or ".join(self.choices)
        words, ends = ("at least", "above", "at most", "below"), self._ends
        return " and ".join(f"{w} {e:g}" for w, e in zip(words, ends, strict=True) if e is not None)

    @property
    def _ends(self) -> tuple[float | None, ...]:
        return self.min, self.above, self.max, self.below

    def allows(self, value: Any) -> bool:
        """Whether the value lies in the range; None always does."""
        if value is None or value == MISSING_TEXT:
            return True
        if self.choices:
            return value in self.choices
        if isinstance(value, bool) or not isinstance(value, int | float):
            return True
        return (
            not math.isnan(value)
            and (self.min is None or value >= self.min)
            and (self.above is None or value > self.above)
            and (self.max is None or value <= self.max)
            and (self.below is None or value < self.below)
        )

    def nearest(self, value: Any, default: Any) -> str:
        """The nearest allowed value; the default where the range has an open end there."""
        if self.choices:
            near = difflib.get_close_matches(str(value), self.choices, n=1, cutoff=0.3)
            return near[0] if near else self.choices[0]
        if self.min is not None and value < self.min:
            return f"{self.min:g}"
        if self.max is not None and value > self.max:
            return f"{self.max:g}"
        return "1" if default is None else str(default)


@dataclass(frozen=True)
class Key:
    """A key that can be overridden."""

    name: str
    type: str
    default: Any
    meaning: KeyMeaning


def key(
    default: Any,
    text: str,
    *,
    min: float | None = None,
    above: float | None = None,
    max: float | None = None,
    below: float | None = None,
    choices: Sequence[str] = (),
) -> Any:
    """A dataclass field with its meaning; a list or dictionary as default is copied."""
    meaning = KeyMeaning(text, min, above, max, below, tuple(choices))
    metadata = {"meaning": meaning}
    if isinstance(default, list | dict):
        return dataclasses.field(default_factory=default.copy, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def group(section: type, text: str) -> Any:
    """A dataclass field that holds a section of keys."""
    return dataclasses.field(default_factory=section, metadata={"meaning": KeyMeaning(text)})


def keys_of(section: type, prefix: str = "") -> Iterator[Key]:
    """Every key of a dataclass of keys, sections themselves included, dotted, in order."""
    types = typing.get_type_hints(section)
    for field in dataclasses.fields(section):
        name, inner = f"{prefix}{field.name}", types[field.name]
        meaning = field.metadata["meaning"]
        if dataclasses.is_dataclass(inner):
            yield Key(name, "group", None, meaning)
            yield from keys_of(typing.cast(type, inner), f"{name}.")
        else:
            made = field.default_factory
            default = field.default if made is dataclasses.MISSING else made()
            yield Key(name, _type_name(inner), default, meaning)


def check_ranges(config: Any) -> None:
    """Raises WardroundError(CONFIGURATION) for the first value out of its range, with the nearest
    valid one."""
    for key in keys_of(type(config)):
        value = config
        for part in key.name.split("."):
            value = getattr(value, part)
        many = isinstance(value, list)
        for item in value if many else [value]:
            if key.meaning.allows(item):
                continue
            nearest = key.meaning.nearest(item, key.default)
            raise WardroundError(
                Code.CONFIGURATION,
                f"{key.name} {'has' if many else 'is'} {item}; "
                f"{'each' if many else 'it'} must be {key.meaning.range}.",
                remedy=f"The nearest valid value: {nearest}. `wardround run --info` shows them.",
            )


def _type_name(annotation: Any) -> str:
    """float | None -> "float or null"."""
    if typing.get_origin(annotation) is list:
        return "list"
    if typing.get_origin(annotation) is dict:
        return "mapping"
    if isinstance(annotation, UnionType) or typing.get_origin(annotation) is typing.Union:
        parts = [p for p in typing.get_args(annotation) if p is not NoneType]
        return " or ".join([*(_type_name(p) for p in parts), "null"])
    return {"str": "text", "int": "integer", "float": "number", "bool": "true or false"}[
        annotation.__name__
    ]
