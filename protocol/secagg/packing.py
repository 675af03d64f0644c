"""The words of a share on the wire: those of a model's update may take fewer bits than the others.

A word of w bits is the last w bits of a word of 32 or 64, and since 2^w divides 2^32, sums of words
mod 2^32 are right mod 2^w: masks are added as ever, and what a site sends is the rest mod 2^w. That
mask is uniform mod 2^w, so the claim of `party` stands. On the wire the first `count` words stand
without gaps, word i in the bits i w to (i + 1) w - 1, the lowest bit of a byte first, filled up
with zeros to whole bytes; the others follow as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from protocol.study.vector_layout import Sections, update_word_bits

Words = npt.NDArray[np.unsignedinteger[Any]]
Bytes = npt.NDArray[np.uint8]
_GROUP = 32
"""Words of w bits that fill w words of 32 bits."""
_BLOCK = 1 << 10
"""Groups at a time, which stay in the cache."""


@dataclass(frozen=True)
class Packing:
    """The first `count` words of a share travel as `bits` bits each, 1 to 32."""

    count: int = 0
    bits: int = 32

    @property
    def size(self) -> int:
        """Bytes of the packed words."""
        return -(-self.count * self.bits // 8)

    def packed(self, words: Words) -> Bytes:
        """A share of little-endian words -> its bytes on the wire; nothing is copied where nothing
        is packed."""
        if not self.count:
            return words.view(np.uint8)
        wide = words[self.count :].view(np.uint8)
        return np.concatenate([pack(words[: self.count], self.bits), wide])

    def unpacked(self, data: Iterable[memoryview]) -> Iterator[Words | memoryview]:
        """Bytes in pieces of any length -> first words of `bits` bits, in pieces and `count` of
        them in all, then the rest of the bytes as they come. Bytes that are missing, are missing in
        the words."""
        waiting, left, rest = b"", self.count, self.size
        for piece in data:
            own, piece = piece[:rest], piece[rest:]
            rest -= len(own)
            if left:
                waiting += bytes(own)
                group = 4 * self.bits
                whole = len(waiting) if not rest else len(waiting) - len(waiting) % group
                words = min(left, whole * 8 // self.bits)
                yield unpack(np.frombuffer(waiting[:whole], np.uint8), self.bits, words)
                waiting, left = waiting[whole:], left - words
            if len(piece):
                yield piece


UNPACKED = Packing()


def packing_of(sections: Sections) -> Packing:
    """How the shares of an attempt travel, as the study says."""
    bits = update_word_bits(sections.study)
    return UNPACKED if bits is None else Packing(sections.control.stop, bits)


def share_size(words: int, word_bits: int, packing: Packing) -> int:
    """Bytes of a share of so many words, guards counted."""
    return packing.size + (words - packing.count) * word_bits // 8


def pack(words: Words, bits: int) -> Bytes:
    """(n,) words -> the last `bits` bits of each, without gaps: (ceil(n bits / 8),) bytes."""
    groups = -(-len(words) // _GROUP)
    packed = np.zeros((groups, bits), dtype="<u4")
    for start in range(0, groups, _BLOCK):
        target = packed[start : start + _BLOCK]
        source = words[start * _GROUP : (start + _BLOCK) * _GROUP]
        part = np.zeros((len(target), _GROUP), dtype=np.uint32)
        part.reshape(-1)[: len(source)] = source & source.dtype.type(2**bits - 1)
        for word in range(_GROUP):
            column, (first, shift) = part[:, word], divmod(word * bits, 32)
            target[:, first] |= column << np.uint32(shift)
            if shift + bits > 32:
                target[:, first + 1] |= column >> np.uint32(32 - shift)
    return packed.reshape(-1).view(np.uint8)[: -(-len(words) * bits // 8)]


def unpack(data: Bytes, bits: int, count: int) -> npt.NDArray[np.uint32]:
    """The inverse: bytes -> (count,) words below 2^bits."""
    groups = -(-count // _GROUP)
    packed = np.zeros(groups * bits * 4, dtype=np.uint8)
    packed[: len(data)] = data
    rows = packed.view("<u4").reshape(groups, bits)
    words = np.empty((groups, _GROUP), dtype=np.uint32)
    for start in range(0, groups, _BLOCK):
        source, target = rows[start : start + _BLOCK], words[start : start + _BLOCK]
        for word in range(_GROUP):
            first, shift = divmod(word * bits, 32)
            column = source[:, first] >> np.uint32(shift)
            if shift + bits > 32:
                column |= source[:, first + 1] << np.uint32(32 - shift)
            target[:, word] = column
        target &= np.uint32(2**bits - 1)
    return words.reshape(-1)[:count]
