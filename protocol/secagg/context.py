"""What all sites of an attempt must agree on so that masks cancel: context and Ready messages.

    ctx0 = H(version, study, kind, exact, round, attempt, model, roster as the site itself has it)
    ctx  = H(ctx0, every Ready of U, sorted by site)

All hashes are SHA-256 over fields with their lengths in front, lists with their number in front,
so that two different agreements never give the same bytes (`encode`).
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import NamedTuple

from protocol.errors import Code, WardroundError
from protocol.identity import Identity, verify
from protocol.secagg.masks import canonical_point

VERSION = "wardround secure aggregation 1"
SIGNED_READY = "wardround secure aggregation 1: ready"
MIN_SITES = 3
"""With two sites each would read the other's sum off the total."""
_NO_KEY, _NO_SIGNATURE = "0" * 64, "0" * 128
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")


def encode(*fields: str | bytes | int) -> bytes:
    """Fields -> bytes, injectively for a given sequence of types: each with its length in front."""
    parts = []
    for value in fields:
        if isinstance(value, str):
            value = value.encode()
        elif isinstance(value, int):
            value = value.to_bytes(8)
        parts += [len(value).to_bytes(8), value]
    return b"".join(parts)


def roster_digest(roster: Iterable[tuple[str, str]]) -> str:
    """H(sorted (site, public identity key in hex)): equal at all who know the same keys."""
    fields: list[str | bytes | int] = [VERSION, "roster"]
    for member in sorted(roster):
        fields += member
    return hashlib.sha256(encode(*fields)).hexdigest()


@dataclass(frozen=True)
class Context:
    """One attempt as one party sees it.

    study, model: SHA-256 in hex. kind: which aggregate this is. exact: some section of the sum has
    no noise, so that U must be the whole roster (two exact sums over U and over U without one site
    would give that site away). roster: (site, public identity key in hex), from the party's own
    records.
    Raises WardroundError(CONFIGURATION) where a field is malformed or the roster names a site or
    a key twice.
    """

    study: str
    kind: str
    round: int
    attempt: int
    model: str
    roster: tuple[tuple[str, str], ...]
    exact: bool = False

    def __post_init__(self) -> None:
        if not (_DIGEST.match(self.study) and _DIGEST.match(self.model)):
            raise _not_hexadecimal()
        if not (0 <= self.round < 2**63 and 0 <= self.attempt < 2**63):
            raise WardroundError(Code.CONFIGURATION, "Round or attempt is out of range.")
        self.identities  # noqa: B018 (a roster that cannot be is refused here)

    @cached_property
    def identities(self) -> Mapping[str, str]:
        """Site -> public identity key in hex."""
        return _members(self.roster).identities

    @cached_property
    def sites(self) -> frozenset[str]:
        return _members(self.roster).sites

    @cached_property
    def digest(self) -> str:
        """ctx0 in hex."""
        fields: list[str | bytes | int] = [VERSION, self.study, self.kind, int(self.exact)]
        fields += [self.round, self.attempt, self.model, len(self.roster)]
        return hashlib.sha256(encode(*fields) + _members(self.roster).encoded).hexdigest()


class _Members(NamedTuple):
    """A roster that has been looked at: one is the same through all attempts of a study."""

    identities: Mapping[str, str]
    sites: frozenset[str]
    encoded: bytes


@lru_cache(maxsize=256)
def _members(roster: tuple[tuple[str, str], ...]) -> _Members:
    identities = dict(roster)
    if not all(_DIGEST.match(key) for key in identities.values()):
        raise _not_hexadecimal()
    for what, values in (("site", identities), ("identity key", set(identities.values()))):
        if len(values) != len(roster):
            raise WardroundError(
                Code.CONFIGURATION,
                f"The roster names a {what} twice.",
                remedy="Compare fingerprints with the sites and correct the roster.",
            )
    fields = [field for member in sorted(roster) for field in member]
    return _Members(MappingProxyType(identities), frozenset(identities), encode(*fields))


def _not_hexadecimal() -> WardroundError:
    return WardroundError(
        Code.CONFIGURATION,
        "A digest or identity key of an aggregation is not 64 lower-case hex digits.",
    )


@dataclass(frozen=True)
class SignedKey:
    """A site's announcement: its ctx0 and one-time X25519 key, signed with its identity key."""

    site: str
    context: str
    public_key: str
    signature: str

    @staticmethod
    def signed(site: str, context: str, public_key: bytes, identity: Identity) -> SignedKey:
        message = encode(site, context, public_key)
        return SignedKey(
            site, context, public_key.hex(), identity.sign(SIGNED_READY, message).hex()
        )

    @staticmethod
    def unmasked(site: str, context: str) -> SignedKey:
        """For aggregation without masks: zeros where key and signature would stand."""
        return SignedKey(site, context, _NO_KEY, _NO_SIGNATURE)


def check_ready(context: Context, ready: SignedKey, *, masked: bool = True) -> None:
    """One Ready alone, as the coordinator sees it come in: known site, own context, signature.

    Raises WardroundError(AGGREGATION) naming the site, or (IDENTITY) for a bad signature.
    """
    if ready.site not in context.sites:
        raise WardroundError(Code.AGGREGATION, "A Ready is from a site not on the roster.")
    if ready.context != context.digest:
        raise WardroundError(
            Code.AGGREGATION,
            f"The SignedKey of {ready.site} is for another context.",
            remedy="Compare roster, study and model at both ends; replays are refused like this.",
        )
    if not masked:
        if (ready.public_key, ready.signature) != (_NO_KEY, _NO_SIGNATURE):
            raise WardroundError(Code.AGGREGATION, f"{ready.site} masks, the study does not.")
        return
    if not canonical_point(_bytes(ready.public_key)):
        raise WardroundError(Code.AGGREGATION, f"The one-time key of {ready.site} is malformed.")
    if not signed_by(ready, _bytes(context.identities[ready.site])):
        raise WardroundError(
            Code.IDENTITY,
            f"The SignedKey of {ready.site} is not signed by the identity key in the roster.",
            remedy=f"Compare the fingerprint of {ready.site} by telephone.",
        )


@lru_cache(maxsize=1024)
def signed_by(ready: SignedKey, identity: bytes) -> bool:
    """Whether the holder of this identity key (32 bytes, public) signed the Ready. Sites in one
    process and their coordinator check the same ones."""
    message = encode(ready.site, ready.context, _bytes(ready.public_key))
    return verify(identity, SIGNED_READY, message, _bytes(ready.signature))


class CheckedReadys(NamedTuple):
    """What the sites of an attempt have in common once their Readys are checked."""

    participants: tuple[SignedKey, ...]
    """Sorted by site."""
    context: bytes
    """ctx, 32 bytes: the salt of every mask of this attempt among these participants."""


def place_in(participants: Sequence[SignedKey], ready: SignedKey) -> int | None:
    """Where a Ready stands among participants, which are sorted by site; None where it does not,
    or in other words."""
    at = bisect_left(participants, ready.site, key=lambda one: one.site)
    return at if at < len(participants) and participants[at] == ready else None


def check_readys(
    context: Context, readys: Sequence[SignedKey], *, least_sites: int, masked: bool = True
) -> CheckedReadys:
    """All Readys of U, checked as DESIGN's second exchange asks.

    Raises WardroundError: CONFIGURATION for a least_sites that masks nothing, TOO_FEW_SITES for
    |U| < least_sites or an exact release without the whole roster, AGGREGATION or IDENTITY for a
    site or key that stands there twice and for whatever `check_ready` refuses.
    """
    return _checked(context, tuple(readys), least_sites, masked)


@lru_cache(maxsize=4)
def _checked(
    context: Context, readys: tuple[SignedKey, ...], least_sites: int, masked: bool
) -> CheckedReadys:
    """Sites in one process, whose context and Readys are the same, check them once."""
    if masked and least_sites < MIN_SITES:
        raise WardroundError(
            Code.CONFIGURATION, f"Secure aggregation needs least_sites >= {MIN_SITES}."
        )
    names = [ready.site for ready in readys]
    if len(set(names)) != len(names):
        raise WardroundError(Code.AGGREGATION, "A site stands twice among the participants.")
    if len(names) < least_sites:
        raise WardroundError(
            Code.TOO_FEW_SITES,
            f"{len(names)} sites take part, the study asks for {least_sites}.",
            remedy="Wait for more sites, then begin another attempt.",
        )
    for ready in readys:
        check_ready(context, ready, masked=masked)
    if context.exact and set(names) != context.sites:
        raise WardroundError(
            Code.TOO_FEW_SITES,
            f"An exact sum takes all {len(context.sites)} sites of the roster; "
            f"missing: {', '.join(sorted(context.sites - set(names)))}.",
            remedy="Wait for them, or release a noised sum.",
        )
    if masked and len({ready.public_key for ready in readys}) != len(readys):
        raise WardroundError(Code.AGGREGATION, "Two sites show the same one-time key.")
    participants = tuple(sorted(readys, key=lambda ready: ready.site))
    fields: list[str | bytes | int] = [VERSION, context.digest, len(participants)]
    for ready in participants:
        fields += [ready.site, ready.context, ready.public_key, ready.signature]
    return CheckedReadys(participants, hashlib.sha256(encode(*fields)).digest())


def _bytes(text: str) -> bytes:
    """Lower-case hexadecimal -> bytes; b"" for anything else, so that each key is written once."""
    try:
        value = bytes.fromhex(text)
    except ValueError:
        return b""
    return value if value.hex() == text else b""
