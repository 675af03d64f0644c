"""The coordinator's signed roster: a history of changes to which every release only appends.

A change enrols a site under an identity key, replaces a site's key, or revokes a key for ever. Each
carries the digest of the one before and the coordinator's signature, so that a history can neither
be rewritten nor lose a hospital without saying so: there is no change that removes without
revoking. The digest of the last change is the version of the roster.

The signature says who spoke. Which keys are real is for each site's operator, by telephone: a key
counts at a site once it was confirmed there, or signed by a key that was (`heirs`).
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal, assert_never

from pydantic import Field, StringConstraints, ValidationError

from protocol.document import Document, canonical, digest
from protocol.errors import Code, WardroundError
from protocol.identity import Identity, verify
from protocol.study.study import Digest, Name
from protocol.untrusted import parsing

CHANGE, HANDOVER = "wardround roster change", "wardround identity handover"
"""Purposes of the coordinator's signature, and of the old key's under its successor."""
_BEGINNING = "0" * 64
"""Stands for the digest before the first change."""
_NEWS_BYTES = 24 * 1024
"""Bytes of changes in one header field, before base64; a site asks again for the rest."""
Signature = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{128}$")]


class RosterChange(Document):
    """One change. `identity`: the key that is enrolled, put in an older one's place, or revoked.
    `handover`: for a replacement, the old key's signature; None where the old key was lost."""

    number: Annotated[int, Field(ge=1, le=100_000)]
    before: Digest
    kind: Literal["enrol", "replace", "revoke"]
    site: Name
    identity: Digest
    handover: Signature | None = None


class SignedChange(Document):
    """A change as it was signed: its canonical text, and the coordinator's signature of it."""

    change: Annotated[str, StringConstraints(max_length=2048)]
    signature: Signature

    @cached_property
    def digest(self) -> str:
        """What the next change carries, and what names the roster's version."""
        return digest(self.change.encode())


@dataclass(frozen=True)
class RosterHistory:
    """Checked changes, the oldest first; `extended` is the only way to another history."""

    signed: tuple[SignedChange, ...] = ()
    changes: tuple[RosterChange, ...] = ()

    @property
    def number(self) -> int:
        return len(self.signed)

    @property
    def version(self) -> str:
        """Digest of the last change; 64 zeros where there is none."""
        return self.signed[-1].digest if self.signed else _BEGINNING

    @cached_property
    def revoked(self) -> frozenset[str]:
        """Identity keys that no sum may hold any more."""
        return frozenset(c.identity for c in self.changes if c.kind == "revoke")

    @cached_property
    def keys(self) -> Mapping[str, str]:
        """Site -> its key now, of the sites that have one which is not revoked."""
        return {s: key for s, key in self.keys_at(self.version).items() if key not in self.revoked}

    @cached_property
    def replaces_keys(self) -> bool:
        """Whether any site has had more than one key: only then need a study name its version."""
        given = [change.site for change in self.changes if change.kind != "revoke"]
        return len(set(given)) < len(given)

    def keys_at(self, version: str | None) -> Mapping[str, str]:
        """Site -> the key that a study of this version has for it, revoked ones included. None:
        each site's first key, as for studies of releases that knew no other.

        Raises WardroundError(IDENTITY) for a version that this history does not have.
        """
        if version is None:
            return dict(reversed([(c.site, c.identity) for c in self._given(self.number)]))
        for number, signed in enumerate(self.signed, 1):
            if signed.digest == version:
                return {change.site: change.identity for change in self._given(number)}
        if version == _BEGINNING:
            return {}
        raise WardroundError(
            Code.IDENTITY,
            f"The study is for version {version[:12]} of the roster, which is not known here.",
            remedy="A site learns of it while it is connected to the coordinator; `wardround-site "
            "status` says whether the coordinator's roster was refused.",
        )

    def held(self, site: str) -> frozenset[str]:
        """The keys that a site has had."""
        return frozenset(change.identity for change in self._given_to.get(site, ()))

    @cached_property
    def _given_to(self) -> Mapping[str, Sequence[RosterChange]]:
        """Site -> the changes that gave it a key, the oldest first."""
        given: dict[str, list[RosterChange]] = {}
        for change in self._given(self.number):
            given.setdefault(change.site, []).append(change)
        return given

    def _given(self, number: int) -> list[RosterChange]:
        return [change for change in self.changes[:number] if change.kind != "revoke"]

    def extended(self, signer: bytes | None, more: Sequence[SignedChange]) -> RosterHistory:
        """With further changes, each checked. signer: the coordinator's public key, 32 bytes; None
        for changes from a record of one's own, which were checked when they came.

        Raises WardroundError: IDENTITY where a signature is not the coordinator's, where they do
        not follow on what is known, or enrol a site twice; MESSAGE where one is malformed.
        """
        history = self
        for signed in more:
            history = history._with(signer, signed)
        return history

    def _with(self, signer: bytes | None, signed: SignedChange) -> RosterHistory:
        signature = bytes.fromhex(signed.signature)
        if signer is not None and not verify(signer, CHANGE, signed.change.encode(), signature):
            raise _refused(
                "A change of the roster is not signed by the coordinator's key.",
                "Ask its operator. Where its signing key was replaced, join with a new bundle.",
            )
        with parsing("A change of the roster is malformed."):
            change = RosterChange.model_validate_json(signed.change)
            if canonical(change.model_dump()).decode() != signed.change:
                raise ValueError
        if (change.number, change.before) != (self.number + 1, self.version):
            raise rewritten(self)
        self._check(change)
        return RosterHistory((*self.signed, signed), (*self.changes, change))

    def _check(self, change: RosterChange) -> None:
        """Raises WardroundError(IDENTITY) where a change is impossible after those before it."""
        site = change.site
        used = {before.identity for before in self._given(self.number)}
        now = self.keys.get(change.site)
        match change.kind:
            case "enrol" if now is not None:
                why = f"The roster enrols {site} twice."
            case "replace" if now is None:
                why = f"The roster replaces the key of {site}, which has none."
            case "enrol" | "replace" if change.identity in used:
                why = f"The roster gives {site} a key that was given before."
            case "enrol" | "replace":
                why = ""
            case "revoke" if change.identity in self.revoked or (
                change.site,
                change.identity,
            ) not in {(c.site, c.identity) for c in self._given(self.number)}:
                why = f"The roster revokes a key that {site} does not have."
            case "revoke":
                why = ""
            case never:
                assert_never(never)
        if not why and change.handover is not None:
            old = bytes.fromhex(now or "")
            signature = bytes.fromhex(change.handover)
            if not verify(old, HANDOVER, bytes.fromhex(change.identity), signature):
                why = f"The new key of {site} is not signed by its old one."
        if why:
            raise _refused(why, "Ask the coordinator's operator; what was known before stays.")

    def appended(
        self, signer: Identity, kind: Literal["enrol", "replace", "revoke"], site: str,
        identity: str, handover: str | None = None,
    ) -> RosterHistory:  # fmt: skip
        """With one change more, signed by the coordinator. Raises as `extended` does."""
        change = RosterChange(
            number=self.number + 1,
            before=self.version,
            kind=kind,
            site=site,
            identity=identity,
            handover=handover,
        )
        signed = _signed(signer, canonical(change.model_dump()).decode())
        return self.extended(signer.public_key, [signed])

    def signed_by(self, signer: Identity) -> RosterHistory:
        """The same changes, and so the same versions, under another key of the coordinator."""
        if not self.signed or verify(
            signer.public_key,
            CHANGE,
            self.signed[-1].change.encode(),
            bytes.fromhex(self.signed[-1].signature),
        ):
            return self
        again = [_signed(signer, signed.change) for signed in self.signed]
        return EMPTY.extended(signer.public_key, again)

    def heirs(self, site: str, confirmed: str | None) -> frozenset[str]:
        """The keys of a site that count where `confirmed` was compared by telephone: that one, and
        those which were signed, one after the other, by it."""
        counting = {confirmed}
        before = None
        for change in self._given_to.get(site, ()):
            if change.handover is not None and before in counting:
                counting.add(change.identity)
            before = change.identity
        return frozenset(key for key in counting if key is not None)


EMPTY = RosterHistory()


class RosterNews(Document):
    """What a coordinator answers a site that says how many changes it has: how many there are, the
    last one's digest, and the next ones."""

    number: Annotated[int, Field(ge=0, le=100_000)]
    version: Digest
    changes: Annotated[tuple[SignedChange, ...], Field(max_length=1000, strict=False)] = ()

    @staticmethod
    def since(history: RosterHistory, number: int) -> RosterNews:
        """The first changes after `number`, as many as fit into a header field."""
        room, changes = _NEWS_BYTES, []
        for signed in history.signed[number:]:
            room -= len(signed.change) + 256
            if room < 0:
                break
            changes.append(signed)
        return RosterNews(number=history.number, version=history.version, changes=tuple(changes))

    def to_field(self) -> str:
        """As the value of an HTTP header field."""
        return b64encode(canonical(self.model_dump(mode="json"))).decode("ascii")

    @staticmethod
    def from_field(value: str) -> RosterNews:
        """Raises WardroundError(MESSAGE) for anything else than what `to_field` makes."""
        with parsing("The coordinator's news of its roster are malformed."):
            try:
                return RosterNews.model_validate_json(b64decode(value, validate=True))
            except ValidationError:
                raise ValueError from None

    def added_to(self, history: RosterHistory, signer: bytes) -> RosterHistory:
        """A site's history with these news. Raises WardroundError(IDENTITY) where the coordinator's
        has shrunk or was rewritten, and what `RosterHistory.extended` raises."""
        if self.number < history.number:
            raise _refused(
                f"The coordinator's roster has shrunk: it ends at change {self.number}, this site "
                f"knows {history.number}.",
                "Nothing was changed here. The coordinator's operator restores the newest "
                "roster.json; a site's state/roster.json has the same changes.",
            )
        grown = history.extended(signer, self.changes)
        if self.number == grown.number and self.version != grown.version:
            raise rewritten(history)
        return grown


def rewritten(history: RosterHistory) -> WardroundError:
    """The refusal of a history that does not follow on what is known."""
    return _refused(
        f"The coordinator's roster is not a continuation of the {history.number} changes known "
        "here: its history was rewritten.",
        "Nothing was changed here. The coordinator's operator restores the newest roster.json, or "
        "everybody joins a new coordinator with a new bundle.",
    )


def _signed(signer: Identity, change: str) -> SignedChange:
    signature = signer.sign(CHANGE, change.encode())
    return SignedChange(change=change, signature=signature.hex())


def _refused(message: str, remedy: str) -> WardroundError:
    return WardroundError(Code.IDENTITY, message, remedy=remedy)
