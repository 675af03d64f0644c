"""Volumes of a cohort: which slices stand in which place, and what is wrong with them, by row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tasks.schema import Image

if TYPE_CHECKING:
    from client.data.dicom.index.index import ImageIndex

_SHOWN = 3
"""Rows, and slices of a row, that a note names; it counts all."""


def volumes_of(
    index: ImageIndex, image: Image, spacing: float, listed: Sequence[Sequence[str]]
) -> tuple[npt.NDArray[Any], list[str]]:
    """listed: of each of N rows the keys of its slices, in any order -> (N, most) keys in order of
    position, None for an empty place; and what to note: rows with missing slices, with slices that
    are there twice, and that are no volume, of which no slice is taken. A row is named by its
    number in the view, the first is 1."""
    from client.data.dicom.index.assembly import assembled

    wanted = {key for keys in listed for key in keys}
    known = {row["image"]: row for row in index.ready() if row["image"] in wanted}
    volumes = [
        assembled([known[key] for key in keys if key in known], image.most, spacing)
        for keys in listed
    ]
    missing = {row: one.missing for row, one in enumerate(volumes, 1) if one.missing}
    twice = {row: one.twice for row, one in enumerate(volumes, 1) if one.twice}
    notes = [
        *_note(image, missing, "lack slices, whose places stay empty"),
        *_note(image, twice, "have slices twice, of which the first is taken"),
    ]
    for fault in sorted({one.fault for one in volumes} - {""}):
        rows = [row for row, one in enumerate(volumes, 1) if one.fault == fault]
        notes.append(
            f"Column {image.name}: {len(rows)} rows of the view are no volume and have no picture, "
            f"{_first([f'row {row}' for row in rows])}: {fault}."
        )
    places = np.full((len(listed), image.most), None, dtype=object)
    for row, one in enumerate(volumes):
        places[row] = one.places
    return places, notes


def _note(image: Image, found: dict[int, tuple[int, ...]], what: str) -> list[str]:
    if not found:
        return []
    named = [f"row {row} slice {_first(list(map(str, of)))}" for row, of in found.items()]
    return [f"Column {image.name}: {len(found)} volumes {what}: {_first(named, '; ')}."]


def _first(named: Sequence[str], between: str = ", ") -> str:
    rest = len(named) - _SHOWN
    return between.join(named[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
