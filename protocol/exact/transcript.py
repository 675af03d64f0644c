"""All sums of an exact analysis so far, with which each site goes on by itself.

With every request of round r the coordinator sends the shares of rounds 1 to r - 1, as their sites
signed them. Whoever receives them checks each signature and each context, opens the integers, and
computes the iterate of round r. So no iterate travels, a site keeps nothing between two rounds, and

    chain_0 = H(study),   chain_r = H(chain_{r-1}, r, opened integers of round r),

where chain_{r-1} stands in the context of round r in the place of a model: masks cancel only among
sites that opened the same integers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from protocol.errors import Code, WardroundError
from protocol.exact.least_counts import joined_intervals
from protocol.exact.newton import Iterate, advance
from protocol.exact.sums import OpenedSums
from protocol.identity import Identity, verify
from protocol.secagg.aggregate import GUARDS, ShareSum
from protocol.secagg.context import Context, SignedKey, check_readys, encode
from protocol.study.exact_analysis import ExactAnalysis
from protocol.study.study import Study
from protocol.study.vector_layout import Sections

SIGNED_SHARE = "wardround secure aggregation 1: exact share"
_CHAIN = "wardround exact analysis 1"
Words = npt.NDArray[np.uint64]
Roster = tuple[tuple[str, str], ...]
"""(site, public identity key in hex) of all sites of the study, from one's own records."""


@dataclass(frozen=True)
class SignedShares:
    """One attempt that gave a sum: the Readys of all sites, by name, and for each of them the
    signature (hex) and the words of its share, (n, length + 2)."""

    round: int
    attempt: int
    readys: tuple[SignedKey, ...]
    signatures: tuple[str, ...]
    words: Words


@dataclass(frozen=True)
class Past:
    """What follows from the sums so far. iterate: None of survival curves, which have none.
    intervals: as `joined_intervals`."""

    chain: str
    rounds: int
    iterate: Iterate | None
    intervals: tuple[int, ...] = ()
    attempt: int = 0
    counts: tuple[int, ...] = ()
    """The opened integers of the noised counts."""
    exact_counts: tuple[int, ...] = ()
    """The opened integers of survival curves."""

    @property
    def over(self) -> bool:
        """Whether no sum is left to be taken."""
        return bool(self.exact_counts) if self.iterate is None else self.iterate.converged


def sign_share(
    site: str,
    readys: Sequence[SignedKey],
    words: npt.NDArray[np.unsignedinteger],
    identity: Identity,
) -> str:
    """Hex, 64 bytes: the site's word for its share among these participants."""
    return identity.sign(SIGNED_SHARE, _statement(site, readys, words)).hex()


def _statement(
    site: str, readys: Sequence[SignedKey], words: npt.NDArray[np.unsignedinteger]
) -> bytes:
    fields: list[str | bytes | int] = [site, len(readys)]
    for ready in sorted(readys, key=lambda one: one.site):
        fields += [ready.site, ready.context, ready.public_key, ready.signature]
    hashed = hashlib.sha256(np.ascontiguousarray(words).view(np.uint8).data).digest()
    return encode(*fields, hashed)


def began(study: Study) -> Past:
    """Before the first sum. Raises WardroundError(INTERNAL) for a study that has none."""
    if study.exact is None:
        raise WardroundError(Code.INTERNAL, "The study has no exact analysis.")
    chain = hashlib.sha256(encode(_CHAIN, study.digest)).hexdigest()
    model = study.exact if isinstance(study.exact, ExactAnalysis) else None
    return Past(chain, 0, None if model is None else Iterate.first(model))


def replay(study: Study, roster: Roster, shares: Sequence[SignedShares]) -> Past:
    """What follows from these shares, of rounds 1, 2, ... in order.

    Raises WardroundError: what `check_readys`, `joined_intervals` and `advance` raise; IDENTITY for
    a share that its site did not sign, AGGREGATION for one that is not as the protocol makes it.
    """
    past = began(study)
    for one in shares:
        past = follow(study, past, one, opened(study, roster, past, one))
    return past


def sections_of(study: Study, round_: int) -> Sections:
    """What round `round_` of an exact analysis sums."""
    return Sections(study, train=study.trains(round_), evaluate=study.evaluates(round_))


def context_of(study: Study, roster: Roster, past: Past, round_: int, attempt: int) -> Context:
    """The context of an attempt after `past`."""
    sections = sections_of(study, round_)
    return Context(
        study=study.digest,
        kind=sections.kind,
        round=round_,
        attempt=attempt,
        model=past.chain,
        roster=roster,
        exact=sections.exact,
    )


def opened(study: Study, roster: Roster, past: Past, one: SignedShares) -> tuple[int, ...]:
    """The integers of the round after `past`. Raises as `replay`."""
    if one.round != past.rounds + 1 or one.attempt <= past.attempt:
        raise WardroundError(Code.MESSAGE, "The sums of an exact analysis are not in order.")
    sections = sections_of(study, one.round)
    context = context_of(study, roster, past, one.round, one.attempt)
    check_readys(context, one.readys, least_sites=study.aggregation.least_sites)
    sites = [ready.site for ready in one.readys]
    shape = (len(sites), sections.length + GUARDS)
    if sites != list(study.sites) or one.words.shape != shape or len(one.signatures) != len(sites):
        raise WardroundError(Code.AGGREGATION, "The shares of an exact sum are not of all sites.")
    total = ShareSum(sites, sections.length, 64)
    for site, signature, words in zip(sites, one.signatures, one.words, strict=True):
        key = bytes.fromhex(context.identities[site])
        signed = bytes.fromhex(signature)
        if not verify(key, SIGNED_SHARE, _statement(site, one.readys, words), signed):
            raise WardroundError(
                Code.IDENTITY,
                f"A share of {site} in an exact sum is not signed by its identity key.",
                remedy=f"Compare the fingerprint of {site} by telephone.",
            )
        total.fold(site, [np.ascontiguousarray(words)])
    return tuple(int(value) for value in total.open())


def follow(study: Study, past: Past, one: SignedShares, total: tuple[int, ...]) -> Past:
    """`past` with the opened integers of one more round. Raises as `replay`."""
    if study.exact is None:
        raise WardroundError(Code.INTERNAL, "The study has no exact analysis.")
    hashed = hashlib.sha256(encode(past.chain, one.round, *(str(value) for value in total)))
    past = replace(past, chain=hashed.hexdigest(), rounds=one.round, attempt=one.attempt)
    if study.evaluates(one.round):
        return replace(past, intervals=joined_intervals(study, total), counts=total)
    if past.over:
        raise WardroundError(Code.MESSAGE, "An exact analysis goes on after it has converged.")
    if past.iterate is None or not isinstance(study.exact, ExactAnalysis):
        if min(total) < 0:
            raise WardroundError(Code.AGGREGATION, "An exact sum counts fewer than no patients.")
        return replace(past, exact_counts=total)
    sums = OpenedSums.read(study.exact, total)
    return replace(past, iterate=advance(study.exact, past.iterate, sums))
