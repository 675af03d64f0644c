"""The coordinator's half of secure aggregation: it adds up the shares and can read only their sum.

Shares arrive in chunks and are added straight into one vector, so that memory grows neither with
the number of sites nor with the size of a message.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from protocol.errors import Code, WardroundError
from protocol.secagg.packing import UNPACKED, Packing, share_size

GUARDS = 2
"""Coordinates behind the contribution, 1 at every site: their sums must be |U|."""
_LOST = "The attempt is lost and stays charged; begin the next."
Chunk = bytes | bytearray | memoryview | npt.NDArray[np.unsignedinteger[Any]]


class ShareSum:
    """The sum of one attempt's shares mod 2^k, k = word_bits.

    participants: U as sent to the sites. length: coordinates of a contribution, guards not
    counted. packing: how the words travel. What each refusal says of who is at fault: a wrong
    length or a second share names its site; a failed guard proves that some share was not what the
    protocol makes it (a wrong mask, damaged bytes), without saying whose, since only the sum can be
    seen.
    """

    def __init__(
        self,
        participants: Sequence[str],
        length: int,
        word_bits: Literal[32, 64],
        packing: Packing = UNPACKED,
    ) -> None:
        self._missing = set(participants)
        self._participants = frozenset(participants)
        if len(self._participants) != len(participants):
            raise WardroundError(Code.AGGREGATION, "A site stands twice among the participants.")
        self._dtype = np.dtype("<u4" if word_bits == 32 else "<u8")
        self._sum = np.zeros(length + GUARDS, dtype=self._dtype)
        self._packing = packing
        self._spoiled = ""

    @property
    def missing(self) -> frozenset[str]:
        """Participants whose share has not been folded."""
        return frozenset(self._missing)

    @property
    def size(self) -> int:
        """Bytes of one share."""
        return share_size(len(self._sum), 8 * self._dtype.itemsize, self._packing)

    def fold(self, site: str, chunks: Iterable[Chunk]) -> None:
        """Adds one site's share, given as its little-endian bytes in pieces of any length.

        Raises WardroundError(AGGREGATION) for a site that takes no part or a share of another
        length, or (REFUSED_REPLAY) where it has answered already, the sum being untouched. After a
        share of wrong length, or when `chunks` itself raises, the sum is spoiled and the attempt
        lost: `open` says so, naming that site; the shares of others are still taken in.
        """
        if site not in self._participants:
            raise WardroundError(Code.AGGREGATION, "A share came from a site that takes no part.")
        if site not in self._missing:
            raise WardroundError(Code.REFUSED_REPLAY, f"{site} sent its share twice.")
        self._missing.discard(site)
        before = self._spoiled
        self._spoiled = before or f"The share of {site} did not arrive whole."
        start, rest = 0, b""
        for words in self._packing.unpacked(_bytes(chunk) for chunk in chunks):
            if isinstance(words, memoryview):
                view = memoryview(rest + bytes(words)) if rest else words
                whole = len(view) - len(view) % self._dtype.itemsize
                words, rest = np.frombuffer(view[:whole], dtype=self._dtype), bytes(view[whole:])
            if start + len(words) > len(self._sum):
                raise WardroundError(Code.AGGREGATION, f"The share of {site} is too long.")
            target = self._sum[start : start + len(words)]
            np.add(target, words, out=target)
            start += len(words)
        if start != len(self._sum) or rest:
            raise WardroundError(Code.AGGREGATION, f"The share of {site} has the wrong length.")
        self._spoiled = before

    def open(self) -> npt.NDArray[np.signedinteger[Any]]:
        """The sum over U: (length,) int32 or int64, each in [-2^(k-1), 2^(k-1)), or of packed words
        in [-2^(w-1), 2^(w-1)).

        Raises WardroundError(AGGREGATION) while shares are missing, when one was spoiled, or when
        a guard is not |U|. The attempt is then lost and stays charged.
        """
        if self._spoiled:
            raise WardroundError(Code.AGGREGATION, self._spoiled, remedy=_LOST)
        if self._missing:
            names = ", ".join(sorted(self._missing))
            raise WardroundError(Code.AGGREGATION, f"No share came from {names}.", remedy=_LOST)
        if any(int(guard) != len(self._participants) for guard in self._sum[-GUARDS:]):
            raise WardroundError(
                Code.AGGREGATION,
                "The guards of the sum are wrong: some share was masked wrongly or damaged.",
                remedy=_LOST + " If it comes again, ask each site to compare its version.",
            )
        signed = np.dtype(f"<i{self._dtype.itemsize}")
        opened = self._sum[:-GUARDS].view(signed)
        packed, unused = opened[: self._packing.count], 8 * signed.itemsize - self._packing.bits
        packed <<= unused
        packed >>= unused  # extends the sign
        return opened


def _bytes(chunk: Chunk) -> memoryview:
    return memoryview(chunk.data if isinstance(chunk, np.ndarray) else chunk).cast("B")
