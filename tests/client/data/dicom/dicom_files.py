"""DICOM objects for tests: the bench's identified radiographs, and folders of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.radiographs import CANARIES, DX, radiograph, written

__all__ = ["CANARIES", "DX", "folder_of", "radiograph", "written"]


def folder_of(count: int, folder: Path, first: int = 0, **changes: Any) -> list[Path]:
    """Radiographs first, first + 1, ... as files."""
    numbers = range(first, first + count)
    return [written(radiograph(n, **changes), folder / f"{n:04}.dcm") for n in numbers]
