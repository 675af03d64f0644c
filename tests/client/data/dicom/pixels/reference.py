"""A slow picture, pixel by pixel, from the text of the standard: no line shared with the product.

A `Made` object is written byte by byte (PS3.5) and read here by its own fields, not from a file.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

Number = float | int


@dataclass(frozen=True)
class Table:
    """LUT items as they were meant. packed: two entries of 8 bits in a word."""

    entries: tuple[int, ...]
    first: int
    bits: int
    packed: bool = False

    def of(self, value: Number) -> int:
        """PS3.3, C.11.1.1.1: below the first, the first entry; above the last, the last."""
        place = round(value) - self.first
        return self.entries[min(max(place, 0), len(self.entries) - 1)]


@dataclass(frozen=True)
class View:
    """Of one frame: rescale, and window with its function."""

    slope: Number = 1
    intercept: Number = 0
    centre: Number | None = None
    width: Number = 1
    function: str = "LINEAR"


@dataclass(frozen=True)
class Made:
    """samples: one frame after another, as they were measured by the detector. where: the view of
    each frame stands "object", "shared" or "frame"."""

    rows: int
    columns: int
    allocated: int
    stored: int
    high: int
    signed: bool
    big_endian: bool
    samples: tuple[tuple[int, ...], ...]
    views: tuple[View, ...]
    where: str = "object"
    inverted: bool = False
    padding: tuple[int, int] | None = None
    modality: Table | None = None
    voi: Table | None = None
    noise: int = 0

    @property
    def order(self) -> str:
        return ">" if self.big_endian else "<"

    def pixel_data(self) -> bytes:
        """PS3.5, 8.1.1: the sample's bits below High Bit; what is around them is noise."""
        kind = "B" if self.allocated == 8 else "H"
        shift = self.high + 1 - self.stored
        mask = ((1 << self.stored) - 1) << shift
        words = [
            ((sample << shift) & mask) | (self.noise & ~mask & ((1 << self.allocated) - 1))
            for frame in self.samples
            for sample in frame
        ]
        if kind == "B" and self.big_endian:  # OW: bytes in words, swapped
            words += [0] * (len(words) % 2)
            words = [words[n ^ 1] for n in range(len(words))]
        data = struct.pack(f"{self.order}{len(words)}{kind}", *words)
        return data + b"\0" * (len(data) % 2)


def words_of(table: Table, order: str) -> bytes:
    """LUT Data as VR OW."""
    words = list(table.entries)
    if table.packed:
        words += [0] * (len(words) % 2)
        words = [words[n] | words[n + 1] << 8 for n in range(0, len(words), 2)]
    return struct.pack(f"{order}{len(words)}H", *words)


def grey(made: Made, number: int) -> list[float | None]:
    """Each pixel of a frame, from 0 to 255 and not rounded; None for padding."""
    return [_grey(made, made.views[number], sample) for sample in made.samples[number]]


def _grey(made: Made, view: View, sample: int) -> float | None:
    if made.padding and min(made.padding) <= sample <= max(made.padding):
        return None
    measured: Number = (
        made.modality.of(sample) if made.modality else sample * view.slope + view.intercept
    )
    if made.voi:
        light = made.voi.of(measured) / ((1 << made.voi.bits) - 1)
    else:
        assert view.centre is not None
        light = _windowed(measured, view.centre, view.width, view.function)
    return 255 * (1 - light if made.inverted else light)


def _windowed(x: Number, c: Number, w: Number, function: str) -> float:
    if function == "SIGMOID":  # C.11.2.1.3.1
        return 1 / (1 + math.exp(min(700, -4 * (x - c) / w)))
    if function == "LINEAR_EXACT":  # C.11.2.1.3.2
        if x <= c - w / 2:
            return 0
        return 1 if x > c + w / 2 else (x - c) / w + 0.5
    if x <= c - 0.5 - (w - 1) / 2:  # C.11.2.1.2.1
        return 0
    return 1 if x > c - 0.5 + (w - 1) / 2 else (x - (c - 0.5)) / (w - 1) + 0.5
