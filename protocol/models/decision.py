"""What a reviewer decided about a registered model, in a record that is only ever appended to.

The reviewer signs the decision with a key of their own. The coordinator, which knows whose study it
was and whose key it is, puts it into an entry that names the entry before it by SHA-256, and signs
that. An entry therefore needs both: a coordinator cannot invent a decision, and nobody can decide
past the coordinator's rules. Entries are verified in the bytes in which they were signed.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, ValidationError

from protocol.document import Document, added_field, canonical, digest
from protocol.errors import Code, WardroundError
from protocol.identity import Identity, verify
from protocol.study.study import Digest, Name
from protocol.untrusted import parsing

DECISION_PURPOSE, ENTRY_PURPOSE = "wardround model decision", "wardround decision entry"
ENTRY, ENTRY_SIGNATURE = "wardround.decision", "wardround.decision_signature"
"""Tags of a model version, and keys of a bundle: its last entry, and the coordinator's signature in
hexadecimal."""
FIRST = "0" * 64
"""What the first entry of a record names as the one before it."""
_NEWS_BYTES = 20 * 1024
"""Bytes of entries in one header field, before base64; a site asks again for the rest."""
Verdict = Literal["approved", "rejected", "withdrawn"]
Signature = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{128}$")]
Keys = Mapping[str, frozenset[str]]
"""Reviewer -> the public keys (64 hexadecimal digits) by which they are known."""


class Decision(Document):
    """Who decided what about which version, and why. `record`: SHA-256 of the version's record as
    it was signed, so that it is about these very files; a bundle has the same digest. `audit`: that
    of the audit's report that the reviewer saw (`protocol.models.audit_evidence`), "" without."""

    format: Literal[1] = 1
    model: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    version: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9}$")]
    study: Digest
    record: Digest
    verdict: Verdict
    reason: Annotated[str, StringConstraints(min_length=1, max_length=1000)]
    reviewer: Name
    time: Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00$")]
    audit: str = added_field("", pattern=r"^([0-9a-f]{64})?$")


class SignedDecision(Document):
    """A decision in its own bytes, and the reviewer's signature over them."""

    decision: Annotated[str, StringConstraints(max_length=16_000)]
    reviewer_key: Digest
    signature: Signature

    @staticmethod
    def make(decision: Decision, key: Identity) -> SignedDecision:
        """The decision, signed by its reviewer."""
        text = canonical(decision.model_dump(mode="json"))
        return SignedDecision(
            decision=text.decode(),
            reviewer_key=key.public_key.hex(),
            signature=key.sign(DECISION_PURPOSE, text).hex(),
        )

    def opened(self) -> Decision:
        """What was decided. Raises WardroundError(MESSAGE) where it is malformed, or the key that
        it names did not sign it."""
        key, signature = bytes.fromhex(self.reviewer_key), bytes.fromhex(self.signature)
        if not verify(key, DECISION_PURPOSE, self.decision.encode(), signature):
            raise WardroundError(Code.MESSAGE, "The decision's signature is not its reviewer's.")
        try:
            return Decision.model_validate_json(self.decision)
        except ValidationError:
            raise WardroundError(Code.MESSAGE, "The decision is malformed.") from None


class Entry(SignedDecision):
    """A decision in a coordinator's record: its number from 1 on, and the SHA-256 of the text of
    the entry before it."""

    format: Literal[1] = 1
    number: Annotated[int, Field(ge=1, le=100_000)]
    previous: Digest


class SignedEntry(Document):
    """An entry in its own bytes, and the coordinator's signature in hexadecimal."""

    text: Annotated[str, StringConstraints(max_length=24_000)]
    signature: Annotated[str, StringConstraints(max_length=128)]

    @staticmethod
    def of_tags(tags: Mapping[str, str]) -> SignedEntry | None:
        """What tags of a version or keys of a bundle hold, unchecked; None where nothing was
        decided. Raises WardroundError(MESSAGE) for what is too long."""
        if not (text := tags.get(ENTRY, "")):
            return None
        with parsing("The decision is malformed."):
            try:
                return SignedEntry(text=text, signature=tags.get(ENTRY_SIGNATURE, ""))
            except ValidationError:
                raise ValueError from None

    @property
    def tags(self) -> dict[str, str]:
        """As MLflow and bundles keep it."""
        return {ENTRY: self.text, ENTRY_SIGNATURE: self.signature}

    @property
    def digest(self) -> str:
        """What the next entry names."""
        return digest(self.text.encode())

    def opened(self, coordinator: bytes) -> OpenedEntry:
        """The entry and what was decided. coordinator: the public key (32 bytes) that must have
        signed it. Raises WardroundError(MESSAGE) where it did not, or where it is malformed."""
        try:
            signature = bytes.fromhex(self.signature)
        except ValueError:
            signature = b""
        if not verify(coordinator, ENTRY_PURPOSE, self.text.encode(), signature):
            raise WardroundError(Code.MESSAGE, "The decision is not signed by the coordinator.")
        try:
            entry = Entry.model_validate_json(self.text)
        except ValidationError:
            raise WardroundError(Code.MESSAGE, "The decision is malformed.") from None
        return OpenedEntry(self, entry, entry.opened())


@dataclass(frozen=True)
class OpenedEntry:
    """A signed entry, and what its bytes say: checked."""

    signed: SignedEntry
    entry: Entry
    decision: Decision

    def objection(self, record: str, reviewers: Keys | None) -> str:
        """Why this is no approval, in words; "" where it is one.

        record: the digest of the record that it must be about. reviewers: whose decision counts;
        None: everyone's whom the coordinator lets decide.
        """
        said, key = self.decision, self.entry.reviewer_key
        if said.record != record:
            return "what was decided is about another version"
        if said.verdict != "approved":
            return f"{said.reviewer} has {said.verdict} it"
        if reviewers is not None and key not in reviewers.get(said.reviewer, frozenset()):
            return f"the key of {said.reviewer}, who approved it, is not known here"
        return ""


def require_approved(
    what: str,
    entry: SignedEntry | None,
    record: str,
    coordinator: bytes,
    reviewers: Keys | None = None,
) -> OpenedEntry:
    """The approval that a model comes with. entry: from its tags or its bundle. coordinator: the
    public signing key (32 bytes) that is trusted. Other arguments are those of `objection`.

    Raises WardroundError(REFUSED_POLICY) where nobody whom the caller trusts has approved it.
    """
    if entry is None:
        raise unapproved(what, "nobody has decided about it")
    try:
        opened = entry.opened(coordinator)
    except WardroundError as error:
        raise unapproved(what, error.message[0].lower() + error.message[1:-1]) from None
    if why := opened.objection(record, reviewers):
        raise unapproved(what, why)
    return opened


def unapproved(what: str, why: str) -> WardroundError:
    """The refusal of a model that nobody has approved."""
    return WardroundError(
        Code.REFUSED_POLICY,
        f"{what} is not approved: {why}.",
        remedy="A reviewer decides with `wardround review approve NAME VERSION --reason ...`.",
    )


@dataclass(frozen=True)
class DecisionHistory:
    """Checked entries, the oldest first; `extended` and `appended` lead to the next history."""

    entries: tuple[OpenedEntry, ...] = ()

    @property
    def number(self) -> int:
        return len(self.entries)

    @property
    def head(self) -> str:
        """Digest of the last entry; 64 zeros where there is none."""
        return self.entries[-1].signed.digest if self.entries else FIRST

    @property
    def signed(self) -> tuple[SignedEntry, ...]:
        return tuple(one.signed for one in self.entries)

    def last(self, record: str) -> OpenedEntry | None:
        """What was decided last about the version with this record."""
        about = (one for one in reversed(self.entries) if one.decision.record == record)
        return next(about, None)

    def extended(self, coordinator: bytes, more: Iterable[SignedEntry]) -> DecisionHistory:
        """With further entries, each checked. coordinator: its public key, 32 bytes.

        Raises WardroundError: MESSAGE where one is malformed or not signed, IDENTITY where they do
        not follow on what is known.
        """
        history = self
        for signed in more:
            opened = signed.opened(coordinator)
            if (opened.entry.number, opened.entry.previous) != (history.number + 1, history.head):
                raise rewritten(history.number)
            history = DecisionHistory((*history.entries, opened))
        return history

    def appended(self, decision: SignedDecision, key: Identity) -> DecisionHistory:
        """With one decision more, signed by the coordinator. Raises as `SignedDecision.opened`."""
        entry = Entry(**decision.model_dump(), number=self.number + 1, previous=self.head)
        text = canonical(entry.model_dump(mode="json")).decode()
        signature = key.sign(ENTRY_PURPOSE, text.encode()).hex()
        signed = SignedEntry(text=text, signature=signature)
        return self.extended(key.public_key, [signed])


class DecisionNews(Document):
    """What a coordinator answers a site that says how many entries it has: how many there are, the
    last one's digest, and the next ones."""

    number: Annotated[int, Field(ge=0, le=100_000)]
    head: Digest
    entries: Annotated[tuple[SignedEntry, ...], Field(max_length=1000, strict=False)] = ()

    @staticmethod
    def since(history: DecisionHistory, number: int) -> DecisionNews:
        """The first entries after `number`, as many as fit into a header field; one at least."""
        room, entries = _NEWS_BYTES, list[SignedEntry]()
        for signed in history.signed[number:]:
            room -= len(canonical(signed.text)) + 256
            if room < 0 and entries:
                break
            entries.append(signed)
        return DecisionNews(number=history.number, head=history.head, entries=tuple(entries))

    def to_field(self) -> str:
        """As the value of an HTTP header field."""
        return b64encode(canonical(self.model_dump(mode="json"))).decode("ascii")

    @staticmethod
    def from_field(value: str) -> DecisionNews:
        """Raises WardroundError(MESSAGE) for anything else than what `to_field` makes."""
        with parsing("The coordinator's news of its decisions are malformed."):
            try:
                return DecisionNews.model_validate_json(b64decode(value, validate=True))
            except ValidationError:
                raise ValueError from None

    def added_to(self, history: DecisionHistory, coordinator: bytes) -> DecisionHistory:
        """A site's history with these news. Raises WardroundError(IDENTITY) where the coordinator's
        has shrunk or was rewritten, and what `DecisionHistory.extended` raises."""
        if self.number < history.number:
            raise rewritten(history.number)
        grown = history.extended(coordinator, self.entries)
        if self.number == grown.number and self.head != grown.head:
            raise rewritten(history.number)
        return grown


def rewritten(number: int) -> WardroundError:
    """The refusal of a record that does not follow on what is known."""
    return WardroundError(
        Code.IDENTITY,
        f"The coordinator's record of decisions is not a continuation of the {number} that are "
        "known here: entries were lost or rewritten.",
        remedy="Nothing was changed here. The coordinator's operator restores the newest "
        "state/decisions.jsonl.",
    )
