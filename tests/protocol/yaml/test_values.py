"""Sizes, paths and numbers as people write them; a size without a unit is a mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from protocol.yaml.values import LocalPath, Number, Size, SizeOrBytes


def read(kind: Any, value: Any) -> Any:
    return TypeAdapter(kind).validate_python(value, strict=True)


@pytest.mark.parametrize(
    ("text", "size"),
    [("512 MiB", 2**29), ("4GiB", 2**32), ("1.5 GiB", 3 * 2**29), ("0 MiB", 0)],
)
def test_a_size_with_its_unit(text: str, size: int) -> None:
    assert read(Size, text) == read(SizeOrBytes, text) == size


@pytest.mark.parametrize("value", ["8", "8 GB", "-1 GiB", "1 mib", "1  MiB", "", 1.5, None, True])
def test_what_is_no_size(value: Any) -> None:
    for kind in (Size, SizeOrBytes):
        with pytest.raises(ValidationError, match="no number with a unit"):
            read(kind, value)


def test_bytes_without_a_unit_only_where_they_are_allowed() -> None:
    assert read(SizeOrBytes, 1000) == 1000
    with pytest.raises(ValidationError, match="no number with a unit"):
        read(Size, 1000)


def test_paths_and_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ward")
    assert read(LocalPath, "~/keys/ca.pem") == Path("/home/ward/keys/ca.pem")
    assert read(LocalPath, "state") == Path("state")
    for wrong in ("", "  ", 5, None):
        with pytest.raises(ValidationError, match="not a path"):
            read(LocalPath, wrong)
    assert isinstance(read(Number, 3), float)
    for wrong in ("3", True):
        with pytest.raises(ValidationError):
            read(Number, wrong)
