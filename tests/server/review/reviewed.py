"""A coordinator's record of decisions, with reviewers and a signed model, without a network."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from protocol.document import digest
from protocol.identity import Identity
from protocol.models.decision import Decision, SignedDecision, Verdict
from protocol.models.record import ModelRecord, SignedRecord
from server.enrolment.accounts import Accounts
from server.review.decisions import FILE, Decisions, JudgedStudy, Proposed

STUDY = "5" * 64


def record(key: Identity, model: str = "heart", version: str = "1") -> SignedRecord:
    return SignedRecord.make(
        ModelRecord(
            study=STUDY, model=model, version=version, weights="0" * 64, files={"MLmodel": "1" * 64}
        ),
        key,
    )


def proposed(
    signed: SignedRecord,
    key: Identity,
    verdict: Verdict = "approved",
    reviewer: str = "rita",
    reason: str = "calibrated",
    audit: str = "",
) -> Proposed:
    """audit: the report that the decision names."""
    of = signed.record
    decision = Decision(
        model=of.model,
        version=of.version,
        study=of.study,
        record=digest(signed.text.encode()),
        verdict=verdict,
        reason=reason,
        reviewer=reviewer,
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        audit=digest(audit.encode()) if audit else "",
    )
    return Proposed(
        decision=SignedDecision.make(decision, key),
        record=signed.text,
        signature=signed.signature,
        audit=audit,
    )


@dataclass
class Reviewed:
    """`keys`: the reviewers rita and raoul; ada is a data scientist and launched the study."""

    folder: Path
    signer: Identity = field(default_factory=Identity.generate)
    keys: dict[str, Identity] = field(default_factory=dict)
    studies: dict[str, JudgedStudy] = field(default_factory=lambda: {STUDY: JudgedStudy("ada")})

    def __post_init__(self) -> None:
        self.accounts = Accounts(self.folder / "accounts.json")
        self.accounts.add("ada")
        for name in ("rita", "raoul"):
            self.keys[name] = Identity.generate()
            self.accounts.add(name, role="reviewer")
            self.accounts.set_key(name, self.keys[name].public_key.hex())
        self.decisions = self.opened()

    def opened(self) -> Decisions:
        """As after a restart."""
        path = self.folder / FILE
        return Decisions(path, self.accounts, self.signer, self.studies.get)

    def decide(self, verdict: Verdict = "approved", reviewer: str = "rita", **of: str) -> str:
        """What the record then says last of the version."""
        signed = record(self.signer, **of)
        body = proposed(signed, self.keys[reviewer], verdict, reviewer, f"because {reviewer}")
        return self.decisions.add(reviewer, body).decision.verdict
