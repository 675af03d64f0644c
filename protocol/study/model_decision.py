"""What a reviewer decided about a registered model: one line of a coordinator's append-only record.

The reviewer signs the decision with a key of their own; the coordinator, which knows whose study it
was and whose key it is, puts it into an entry that names the entry before it, and signs that. The
last entry of a version stands in its tags in MLflow: who has the coordinator's public key needs no
other to tell an approved model. Whoever can change MLflow can put an earlier entry of the same
version back, and nothing else; the coordinator's own record (`decisions.jsonl`) shows that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, ValidationError

from protocol.document import Document, canonical, digest
from protocol.errors import Code, WardroundError
from protocol.identity import Identity, verify
from protocol.study.study import Digest, Name

DECISION_PURPOSE, ENTRY_PURPOSE = "wardround model decision", "wardround decision entry"
ENTRY, ENTRY_SIGNATURE = "wardround.decision", "wardround.decision_signature"
"""Tags of a model version: its last entry, and the coordinator's signature in hexadecimal."""
FIRST = "0" * 64
"""What the first entry of a record names as the one before it."""
Verdict = Literal["approved", "rejected", "withdrawn"]
Signature = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{128}$")]


class Decision(Document):
    """Who decided what about which version, and why. `record`: SHA-256 of the version's record
    (its tag `wardround.record`), so that it is about these very files."""

    format: Literal[1] = 1
    model: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    version: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9}$")]
    study: Digest
    record: Digest
    verdict: Verdict
    reason: Annotated[str, StringConstraints(min_length=1, max_length=1000)]
    reviewer: Name
    time: Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00$")]


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
    number: Annotated[int, Field(ge=1)]
    previous: Digest


@dataclass(frozen=True)
class SignedEntry:
    """An entry in its own bytes, and the coordinator's signature in hexadecimal."""

    text: str
    signature: str

    @staticmethod
    def make(
        decision: SignedDecision, before: SignedEntry | None, number: int, key: Identity
    ) -> SignedEntry:
        """The next entry of a record. before: its last one, None where it is empty."""
        entry = Entry(
            **decision.model_dump(),
            number=number,
            previous=FIRST if before is None else digest(before.text.encode()),
        )
        text = canonical(entry.model_dump(mode="json")).decode()
        return SignedEntry(text, key.sign(ENTRY_PURPOSE, text.encode()).hex())

    @staticmethod
    def of_tags(tags: Mapping[str, str]) -> SignedEntry | None:
        """What a version's tags hold, unchecked; None where nothing was decided."""
        text = tags.get(ENTRY, "")
        return SignedEntry(text, tags.get(ENTRY_SIGNATURE, "")) if text else None

    @property
    def tags(self) -> dict[str, str]:
        """As MLflow keeps it."""
        return {ENTRY: self.text, ENTRY_SIGNATURE: self.signature}

    def opened(self, coordinator: bytes) -> tuple[Entry, Decision]:
        """The entry and what was decided. coordinator: the public key (32 bytes) that must have
        signed it. Raises WardroundError(MESSAGE) where it did not, or where it is malformed."""
        try:
            signature = bytes.fromhex(self.signature)
        except ValueError:
            signature = b""
        if not verify(coordinator, ENTRY_PURPOSE, self.text.encode(), signature):
            raise WardroundError(Code.MESSAGE, "The entry is not signed by the coordinator.")
        try:
            entry = Entry.model_validate_json(self.text)
        except ValidationError:
            raise WardroundError(Code.MESSAGE, "The entry is malformed.") from None
        return entry, entry.opened()


def require_approved(
    address: str, tags: Mapping[str, str], record: str, coordinator: bytes
) -> Decision:
    """The approval of a model version.

    address: what the caller calls it. tags: of the version in MLflow. record: the text of its
    record, already verified. coordinator: the public signing key (32 bytes) that the caller trusts.

    Raises WardroundError(REFUSED_POLICY) where its last decision is no approval of these files.
    """
    entry = SignedEntry.of_tags(tags)
    if entry is None:
        raise _unapproved(address, "nobody has decided about it")
    try:
        _, decision = entry.opened(coordinator)
    except WardroundError as error:
        raise _unapproved(address, error.message[:-1].lower()) from None
    if decision.record != digest(record.encode()):
        raise _unapproved(address, "what was decided is about another version")
    if decision.verdict != "approved":
        raise _unapproved(address, f"{decision.reviewer} has {decision.verdict} it")
    return decision


def _unapproved(address: str, why: str) -> WardroundError:
    return WardroundError(
        Code.REFUSED_POLICY,
        f"{address} is not approved: {why}.",
        remedy="A reviewer decides with `wardround review approve NAME VERSION --reason ...`.",
    )
