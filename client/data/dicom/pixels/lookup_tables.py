"""Look-up tables of an object: modality, VOI and palette, each as its descriptor says.

PS3.3, C.11.1.1.1 (modality), C.11.2.1.1 (VOI), C.7.6.3.1.5 and C.7.6.3.1.6 (palette), C.7.9.2
(segmented palette). Of the three values of a descriptor, the number of entries and the bits of an
entry are unsigned whatever their VR; the first value mapped is as its input, which the VR that was
written does not always say.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from client.data.dicom.pixels.faults import NoPicture, PixelFault

_DOMAIN = 1 << 16
_COLOURS = ("Red", "Green", "Blue")
Words = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class LookupTable:
    """entries: (n,) uint16, n >= 1; first: the input that is mapped to the first of them; bits: of
    an entry, at most 16."""

    entries: Words
    first: int
    bits: int

    def __call__(self, inputs: npt.NDArray[Any]) -> Words:
        """Inputs below the first and above the last have the first and the last entry."""
        place = np.clip(np.rint(inputs) - self.first, 0, len(self.entries) - 1)
        return np.asarray(self.entries[place.astype(np.int64)])


def lookup_table(item: Dataset, signed: bool) -> LookupTable:
    """The table in an item of a modality or VOI LUT sequence. signed: whether its inputs may be.

    Raises NoPicture(LOOKUP_TABLE).
    """
    return _table(item, "LUTDescriptor", "LUTData", signed)


def palette(header: Dataset, signed: bool) -> tuple[LookupTable, LookupTable, LookupTable]:
    """Red, green and blue. signed: whether samples are. Raises NoPicture(LOOKUP_TABLE)."""
    name = "{}PaletteColorLookupTable"
    data = "" if f"{name.format('Red')}Data" in header else "Segmented"
    red, green, blue = (
        _table(header, name.format(c) + "Descriptor", data + name.format(c) + "Data", signed)
        for c in _COLOURS
    )
    return red, green, blue


def _table(item: Dataset, descriptor: str, data: str, signed: bool) -> LookupTable:
    try:
        count, first, said = (int(value) & 0xFFFF for value in item[descriptor].value)
        words = _words(item[data].value, item.original_encoding[1] is not False)
        entries = _entries(words, count or _DOMAIN, said, segmented=data.startswith("Segmented"))
        filled = int(entries.max()).bit_length()
    except (KeyError, TypeError, ValueError, IndexError):
        raise NoPicture(PixelFault.LOOKUP_TABLE) from None
    if signed and first >= _DOMAIN // 2:
        first -= _DOMAIN
    return LookupTable(entries, first, _bits(said, filled))


def _bits(said: int, filled: int) -> int:
    """Bits of an entry. "16" is also written for the words in which entries of fewer bits lie
    (Agfa): then as many as the greatest entry fills. No fewer than that in any case."""
    return max(1, filled if said >= 16 else max(said, filled))


def _words(value: Any, little_endian: bool) -> Words:
    """LUT data as 16-bit words: values of VR US or SS, or the bytes of VR OW, in the byte order of
    their transfer syntax (PS3.5, 7.3)."""
    if isinstance(value, bytes):
        whole = value + b"\0" * (len(value) % 2)
        return np.frombuffer(whole, "<u2" if little_endian else ">u2").astype(np.uint16)
    return (np.atleast_1d(np.asarray(value, np.int64)) & 0xFFFF).astype(np.uint16)


def _entries(words: Words, count: int, bits: int, segmented: bool) -> Words:
    """Two entries of 8 bits lie in a word, the first in its lower half, unless the words are as
    many as the entries (the note in C.11.1.1.1: some writers leave upper halves empty)."""
    if segmented:
        return _expanded(_bytes(words) if bits <= 8 else words, 1 if bits <= 8 else 2, count)
    if len(words) == (count + 1) // 2 < count:
        words = _bytes(words)
    return words[:count]


def _bytes(words: Words) -> Words:
    return words.astype("<u2").view(np.uint8).astype(np.uint16)


def _expanded(data: Words, width: int, count: int) -> Words:
    """The table of `count` entries that segments describe (PS3.3, C.7.9.2). width: bytes of a
    field."""
    fields = [int(value) for value in data]
    out: list[int] = []
    place = 0
    while len(out) < count and place + 2 < len(fields):
        code, length = fields[place], fields[place + 1]
        if code == 2:  # C.7.9.2.3: segments that come earlier, once more
            parts = fields[place + 2 : place + 2 + 4 // width]
            again = sum(part << (8 * width * n) for n, part in enumerate(parts)) // width
            while length and len(out) < count:
                again, length = _segment(fields, again, out), length - 1
            place += 2 + 4 // width
        else:
            place = _segment(fields, place, out)
    if not out:
        raise ValueError
    return np.array(out[:count], np.uint16)


def _segment(fields: list[int], place: int, out: list[int]) -> int:
    """Expands one segment; where the next one is."""
    code, length = fields[place], fields[place + 1]
    if code == 0:  # C.7.9.2.1: discrete
        out += fields[place + 2 : place + 2 + length]
        return place + 2 + length
    if code != 1:
        raise ValueError
    out += _line(out[-1], fields[place + 2], length)  # C.7.9.2.2: linear, from the one before
    return place + 3


def _line(start: int, end: int, length: int) -> Iterator[int]:
    return (round(start + (end - start) * n / length) for n in range(1, length + 1))
