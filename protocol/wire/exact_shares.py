"""The shares of an exact analysis' earlier rounds as they travel with a request, and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from protocol.exact.transcript import SignedShares, Words, sections_of
from protocol.secagg.aggregate import GUARDS
from protocol.study.study import Study
from protocol.wire.messages import Announced, Buffer, Opened, gather


def to_wire(shares: Sequence[SignedShares]) -> tuple[tuple[Opened, ...], Words]:
    """The header's part, and the body's words, one after the other."""
    headers = tuple(
        Opened(
            round=one.round,
            attempt=one.attempt,
            readys=tuple(
                Announced(
                    site=key.site,
                    context=key.context,
                    public_key=key.public_key,
                    signature=key.signature,
                )
                for key in one.readys
            ),
            signatures=one.signatures,
        )
        for one in shares
    )
    words = [one.words.reshape(-1) for one in shares]
    return headers, np.concatenate(words) if words else np.zeros(0, np.uint64)


def from_wire(
    study: Study, headers: Sequence[Opened], body: Iterable[Buffer]
) -> tuple[SignedShares, ...]:
    """The inverse. Raises WardroundError(MESSAGE) for a body of another length."""
    widths = [sections_of(study, one.round).length + GUARDS for one in headers]
    sizes = [len(one.readys) * width for one, width in zip(headers, widths, strict=True)]
    words: Words = gather(body, np.uint64, sum(sizes)).view(np.uint64)
    shares, start = [], 0
    for one, width, size in zip(headers, widths, sizes, strict=True):
        keys = tuple(ready.key for ready in one.readys)
        block = words[start : start + size].reshape(len(keys), width)
        shares.append(SignedShares(one.round, one.attempt, keys, one.signatures, block))
        start += size
    return tuple(shares)
