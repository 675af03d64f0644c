"""What a test knows of a value beyond its type: asserted here, and known to mypy from there on."""

from __future__ import annotations

from typing import Any, TypeVar

T = TypeVar("T")


def present(value: T | None) -> T:
    """The value, which is not None."""
    assert value is not None
    return value


def instance(kind: type[T], value: Any) -> T:
    """The value, which is of this class."""
    assert isinstance(value, kind), value
    return value
