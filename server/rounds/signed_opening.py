"""A sum whose shares are kept, each with its site's signature, for the other sites to add up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from protocol.exact.transcript import SignedShares, Words
from protocol.secagg.aggregate import GUARDS, ShareSum
from protocol.study.vector_layout import Integers
from protocol.wire.messages import Buffer, Collect, gather


class SignedOpening:
    """A `ShareSum` of words of 64 bits that keeps every share."""

    def __init__(self, participants: Sequence[str], length: int) -> None:
        self._sum, self._words = ShareSum(participants, length, 64), dict[str, Words]()
        self._length = length + GUARDS
        self.signatures: dict[str, str] = {}

    @property
    def size(self) -> int:
        return self._sum.size

    @property
    def missing(self) -> frozenset[str]:
        return self._sum.missing

    def fold(self, site: str, chunks: Iterable[Buffer]) -> None:
        """Takes one site's share. Raises as `ShareSum.fold`, MESSAGE for another length."""
        words = gather(chunks, np.uint64, self._length)
        self._words[site] = words.view(np.uint64)
        self._sum.fold(site, [self._words[site]])

    def open(self) -> Integers:
        """(length,) int64. Raises as `ShareSum.open`."""
        return self._sum.open()

    def shares(self, collect: Collect) -> SignedShares:
        """All of them, sites by name."""
        keys = tuple(sorted(collect.announced, key=lambda key: key.site))
        return SignedShares(
            collect.round,
            collect.attempt,
            keys,
            tuple(self.signatures.get(key.site, "") for key in keys),
            np.stack([self._words[key.site] for key in keys]),
        )
