"""A reviewer's decision: the model is verified, the decision is signed, the coordinator takes it.

Nobody signs what was not looked at: every file of the model is compared with the record that the
coordinator signed before the reviewer's key is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from launch.federations.control_client import ControlClient, no_coordinator
from protocol.document import digest
from protocol.errors import Code, WardroundError
from protocol.identity import Identity
from protocol.models.audit_evidence import LONGEST, AuditEvidence
from protocol.models.decision import (
    Decision,
    DecisionHistory,
    OpenedEntry,
    SignedDecision,
    SignedEntry,
    Verdict,
)
from server.enrolment.signing_key import public_half
from server.review.decisions import Proposed
from server.tracking.registered_model import VerifiedModel, verify

_TIMEOUT = 60.0


@dataclass(frozen=True)
class Review:
    """A reviewer's account at a coordinator, and the MLflow that holds its models."""

    credentials: Path
    coordinator: str | None = None
    tracking_uri: str | None = None

    def decide(
        self,
        key: Identity,
        verdict: Verdict,
        model: str,
        version: str,
        reason: str,
        audit: Path | None = None,
    ) -> OpenedEntry:
        """The coordinator's entry for the decision. audit: the report that an approval names.

        Raises WardroundError: as `registered_model.verify` (USAGE, WEIGHTS, TRACKING, CREDENTIALS),
        as `ControlClient.call`, USAGE for a reason that says nothing or is too long, NO_DATA
        for a report that cannot be read, and what
        `server.review.decisions.Decisions.add` raises.
        """
        if not reason.strip():
            raise WardroundError(
                Code.USAGE,
                "The reason is empty.",
                remedy="Say in a sentence why: whoever uses the model, or asks for it, reads it.",
            )
        report = "" if audit is None else _report(audit)
        looked_at = self.verified(model, version)
        control = ControlClient(self.credentials, self.coordinator, _TIMEOUT)
        try:
            signed = SignedDecision.make(
                _decision(looked_at, verdict, reason.strip(), control.account, report), key
            )
            record = looked_at.record
            proposed = Proposed(
                decision=signed, record=record.text, signature=record.signature, audit=report
            )
            answer = control.call("POST", "decisions", proposed.model_dump(mode="json"))
            return self._entry(answer.get("entry"), control).opened(self._trusted())
        finally:
            control.close()

    def verified(self, model: str, version: str) -> VerifiedModel:
        """The model, as the coordinator signed it. Raises as `registered_model.verify`."""
        address = f"models:/{model}/{version}"
        return verify(address, key=self.credentials, tracking_uri=self.tracking_uri)

    def history(self) -> DecisionHistory:
        """Every decision at the coordinator, checked. Raises as `ControlClient.call`, and
        WardroundError(MESSAGE or IDENTITY) for a record that is not what it signed."""
        control = ControlClient(self.credentials, self.coordinator, _TIMEOUT)
        try:
            entries = control.call("GET", "decisions").get("entries")
            if not isinstance(entries, list):
                raise no_coordinator(control.coordinator)
            signed = [self._entry(entry, control) for entry in entries]
            return DecisionHistory().extended(self._trusted(), signed)
        finally:
            control.close()

    def _trusted(self) -> bytes:
        return public_half(self.credentials)

    @staticmethod
    def _entry(plain: object, control: ControlClient) -> SignedEntry:
        try:
            return SignedEntry.model_validate(plain)
        except ValidationError:
            raise no_coordinator(control.coordinator) from None


def _report(file: Path) -> str:
    """An audit's report, which says that it is one. Raises WardroundError(NO_DATA, MESSAGE)."""
    try:
        text = file.read_text(encoding="utf-8")[: LONGEST + 1]
    except (OSError, UnicodeDecodeError) as error:
        raise WardroundError(
            Code.NO_DATA,
            f"The audit's report {file} cannot be read ({type(error).__name__}).",
            remedy="Give the summary.json that `wardround audit --study` wrote.",
        ) from None
    AuditEvidence.parse(text)
    return text


def _decision(
    model: VerifiedModel, verdict: Verdict, reason: str, reviewer: str, report: str
) -> Decision:
    record = model.record.record
    try:
        return Decision(
            model=record.model,
            version=record.version,
            study=record.study,
            record=digest(model.record.text.encode()),
            verdict=verdict,
            reason=reason,
            reviewer=reviewer,
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            audit=digest(report.encode()) if report else "",
        )
    except ValidationError:
        raise WardroundError(
            Code.USAGE,
            f"The reason has {len(reason)} characters.",
            remedy="1000 at most; what is longer goes into a document that the reason names.",
        ) from None
