"""Slices of a series become a volume of places that are evenly apart, whatever the scanner's
spacing: by Image Position (Patient), never by number (PS3.3, C.7.6.2.1.1).

The slice in the middle of the volume, one that is missing too, stands in the middle place, the
upper one of two; from there places are evenly apart. A place takes the slice that is nearest to it;
where there is none within half a spacing, because it is missing or lies beyond the ends, the place
stays empty. Nothing is invented between slices.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from client.data.dicom.index.volumes import POSITION, SAME, SERIES, along_line

NO_POSITION = "a slice states no position"
SEVERAL = "slices of several series, sizes or directions"
NO_LINE = "positions that do not lie on a line, or a single one"
FAR = "positions that are too far apart for one volume"
_MOST = 10_000
"""Slices of a volume: what states a position light years away counts none of those between."""


@dataclass(frozen=True)
class Volume:
    """places: keys of pictures in order of position, None for an empty place. missing: of the
    slices counted from 1 on, missing ones too, which have no picture; twice: which have another
    one, that is left out. fault: why there is no volume, "" where there is one."""

    places: tuple[str | None, ...]
    missing: tuple[int, ...] = ()
    twice: tuple[int, ...] = ()
    fault: str = ""


def assembled(slices: Sequence[Mapping[str, Any]], places: int, spacing: float) -> Volume:
    """slices: rows of the image index, by column, in any order. spacing: mm between two places.
    No slices are an empty volume."""
    empty: tuple[str | None, ...] = (None,) * places
    if not slices:
        return Volume(empty)
    if any(row[name] is None for row in slices for name in POSITION):
        return Volume(empty, fault=NO_POSITION)
    if len({tuple(row[name] for name in SERIES) for row in slices}) > 1:
        return Volume(empty, fault=SEVERAL)
    ordered = sorted(slices, key=lambda row: (row["instance_number"] or 0.0, row["image"]))
    along = along_line(np.array([[row[name] for name in POSITION] for row in ordered], float))
    if along is None:
        return Volume(empty, fault=NO_LINE)
    order = np.argsort(along, kind="stable")
    steps = np.diff(along[order])
    first = np.concatenate([[True], steps > SAME])
    at, keys = along[order][first], [ordered[row]["image"] for row in order[first]]
    if len(at) < 2:
        return Volume(empty, fault=NO_LINE)
    own = float(np.median(np.diff(at)))
    if (at[-1] - at[0]) / own > _MOST:
        return Volume(empty, fault=FAR)
    numbers = 1 + np.concatenate([[0], np.cumsum(np.maximum(np.rint(np.diff(at) / own), 1))])
    missing = set(range(1, int(numbers[-1]) + 1)) - {int(number) for number in numbers}
    of_repeated = numbers[np.cumsum(first)[~first] - 1]
    middle = at[0] + own * math.floor((at[-1] - at[0]) / own / 2 + 0.5 + SAME)
    wanted = middle + spacing * (np.arange(places) - places // 2)
    return Volume(
        tuple(_nearest(at, keys, place, max(own, spacing) / 2 + SAME) for place in wanted),
        tuple(sorted(missing)),
        tuple(sorted({int(number) for number in of_repeated})),
    )


def _nearest(
    at: npt.NDArray[np.float64], keys: Sequence[str], place: float, within: float
) -> str | None:
    """The key of the slice that is nearest to a place; of two as near, the lower one's."""
    away = np.abs(at - place)
    nearest = int(np.argmin(np.round(away / SAME)))
    return keys[nearest] if away[nearest] <= within else None
