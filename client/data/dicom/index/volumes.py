"""Where a picture lies in its series: slices in order of position, with gaps and repetitions.

Instance numbers may run either way, start anywhere or repeat; Image Position (Patient) is where a
slice is (PS3.3, C.7.6.2.1.1). Positions of one volume lie on a line: along it slices are counted,
towards the patient's head, else back, else left, whichever the line runs along most.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

SAME = 0.01
"""Millimetres within which two positions are one."""
STRAIGHT = 1.0
"""Millimetres that a position may lie beside the line."""
SERIES = ("study", "series", "orientation", "rows", "columns", "row_spacing", "column_spacing")
"""What all slices of a volume have in common: a series may have scouts in other planes."""
POSITION = ("position_x", "position_y", "position_z")
COLUMNS = ("slice", "slices", "slice_spacing", "missing_slices", "duplicate")


@dataclass(frozen=True)
class Slice:
    """slice: its number from 0 on, among `slices` different positions, `slice_spacing` mm apart
    (the median). missing_slices: how many positions between them have no picture. duplicate: 0 for
    the first picture of a position, by instance number and key, then 1, 2 ..."""

    slice: int
    slices: int
    slice_spacing: float
    missing_slices: int
    duplicate: int


def slices_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Slice]:
    """Rows of the index, by column -> key of a picture -> its place in a volume. Left out is what
    states no position, what stands alone, and series whose positions do not lie on a line."""
    volumes: dict[tuple[Any, ...], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["series"] is not None and all(row[name] is not None for name in POSITION):
            volumes[tuple(row[name] for name in SERIES)].append(row)
    found: dict[str, Slice] = {}
    for pictures in volumes.values():
        pictures.sort(key=lambda row: (row["instance_number"] or 0.0, row["image"]))
        positions = np.array([[row[name] for name in POSITION] for row in pictures], float)
        keys = [str(row["image"]) for row in pictures]
        found |= dict(zip(keys, _placed(positions), strict=False))
    return found


def _placed(positions: npt.NDArray[np.float64]) -> list[Slice]:
    """(n, 3) mm, in the order in which repetitions are to be counted -> each one's place; empty
    where they are no volume."""
    along = along_line(positions)
    if along is None:
        return []
    order = np.argsort(along, kind="stable")
    steps = np.diff(along[order])
    number = np.empty(len(along), dtype=np.int64)
    number[order] = np.concatenate([[0], np.cumsum(steps > SAME)])
    gaps = steps[steps > SAME]
    spacing = round(float(np.median(gaps)), 4)
    missing = int(np.sum(np.maximum(np.rint(gaps / spacing) - 1, 0)))
    slices, seen, placed = int(number.max()) + 1, defaultdict[int, int](int), []
    for at in map(int, number):
        placed.append(Slice(at, slices, spacing, missing, seen[at]))
        seen[at] += 1
    return placed


def along_line(positions: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | None:
    """(n, 3) -> (n,) mm along their line; None where there is none."""
    centred = positions - positions.mean(axis=0)
    if np.linalg.norm(centred, axis=1).max() <= SAME:
        return None
    line = np.linalg.svd(centred, full_matrices=False)[2][0]
    left, back, head = map(float, line)
    leads = max((head, back, left), key=lambda part: round(abs(part), 6))
    line = line if leads > 0 else -line
    along = centred @ line
    beside = np.linalg.norm(centred - along[:, None] * line, axis=1)
    return np.asarray(along) if beside.max() <= STRAIGHT else None
