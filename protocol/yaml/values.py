"""Types of values in YAML that people write: sizes with a unit, paths, numbers, lists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field, ValidationInfo

T = TypeVar("T")
_UNITS = {"MiB": 2**20, "GiB": 2**30}


def _size(value: Any) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(MiB|GiB)", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("no number with a unit")
    return int(float(match[1]) * _UNITS[match[2]])


def _size_or_bytes(value: Any) -> int:
    return value if type(value) is int else _size(value)


def _path(value: Any, info: ValidationInfo) -> Path | str:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value.strip():
        raise ValueError("not a path")
    path = Path(value).expanduser()
    return str(path) if info.mode == "json" else path


def _number(value: Any) -> Any:
    return float(value) if type(value) is int else value


Size = Annotated[int, BeforeValidator(_size)]
"""Bytes, written as `512 MiB` or `4 GiB`."""
SizeOrBytes = Annotated[int, BeforeValidator(_size_or_bytes)]
"""As `Size`, or a whole number of bytes."""
LocalPath = Annotated[Path, BeforeValidator(_path)]
"""A path on this machine; `~` is the user's home."""
Number = Annotated[float, BeforeValidator(_number)]
"""A number, with a decimal point or without."""
YamlList = Annotated[tuple[T, ...], Field(strict=False)]
"""A list, read into a tuple."""
