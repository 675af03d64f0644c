"""A coordinator's record of reviewers' decisions, and the rules by which a decision enters it.

    state/decisions.jsonl   one signed entry a line, each naming the one before it; only appended to
    state/audits/           the audits' reports that approvals name, by their digests

Whose study it was and whether its gates hold is what this coordinator itself noted, not what MLflow
says. A decision is durable before anybody is told of it; MLflow follows (`server.review.aliases`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, ValidationError

from protocol import durable_files
from protocol.document import Document, digest
from protocol.errors import Code, WardroundError
from protocol.housekeeping import reason
from protocol.identity import Identity
from protocol.models.audit_evidence import LONGEST, AuditEvidence
from protocol.models.decision import (
    Decision,
    DecisionHistory,
    OpenedEntry,
    SignedDecision,
    SignedEntry,
)
from protocol.models.record import RECORD, SIGNATURE, SignedRecord
from protocol.release import RELEASE
from protocol.study.study import Study
from server.enrolment.accounts import Accounts

FILE, AUDITS = "decisions.jsonl", "audits"
_MINE = "Decide from the reviewer's own account, with the key that the operator has for it."


class Proposed(Document):
    """The body of POST /decisions: what a reviewer signed, and the record of the version that it is
    about, with the coordinator's signature in hexadecimal. audit: the report of which the decision
    holds the digest, "" without one."""

    decision: SignedDecision
    record: str = Field(max_length=8000)
    signature: str = Field(max_length=128)
    audit: str = Field(default="", max_length=LONGEST)


@dataclass(frozen=True)
class JudgedStudy:
    """What this coordinator noted of a model's study. failed: its gates that do not hold. audited:
    the study, where its gates ask for an audit's report."""

    account: str
    failed: tuple[str, ...] = ()
    audited: Study | None = None


class Decisions:
    """The record. For any thread."""

    def __init__(
        self,
        path: Path,
        accounts: Accounts,
        key: Identity,
        study: Callable[[str], JudgedStudy | None],
    ) -> None:
        """key: the coordinator's, which signs entries and has signed models. study: what is noted
        of a study, by its digest."""
        self._path, self._accounts, self._key, self._study = path, accounts, key, study
        self._lock = threading.Lock()
        self._read: DecisionHistory | None = None

    @property
    def history(self) -> DecisionHistory:
        """Raises WardroundError(STATE) where the file is damaged, shortened within, or another
        key's: then nothing is decided until it is restored."""
        with self._lock:
            return self._history()

    def add(self, account: str, proposed: Proposed) -> OpenedEntry:
        """Takes a reviewer's decision into the record; the same one again, if it is the last one
        about its version, is answered as the first time.

        Raises WardroundError: MESSAGE where it is malformed or not signed, REFUSED_POLICY where the
        rules do not allow it, USAGE where it changes nothing, STATE where it cannot be stored.
        """
        decision = proposed.decision.opened()
        self._check_reviewer(account, proposed.decision, decision)
        self._check_model(decision, proposed)
        if decision.audit != (digest(proposed.audit.encode()) if proposed.audit else ""):
            raise WardroundError(
                Code.MESSAGE,
                "The audit's report is not the one that the decision names.",
                remedy="Decide again, with the report as it was written.",
            )
        with self._lock:
            history = self._history()
            last = history.last(decision.record)
            mine = proposed.decision.signature
            if last is not None and last.entry.signature == mine:
                return last
            if any(one.entry.signature == mine for one in history.entries):
                raise WardroundError(
                    Code.REFUSED_POLICY,
                    "This decision was taken before, and another one has replaced it since.",
                    remedy="Decide again, with today's reason.",
                )
            self._check_change(decision, last)
            grown = history.appended(proposed.decision, self._key)
            new = grown.entries[-1]
            try:
                self._keep(decision.audit, proposed.audit)
                line = new.signed.model_dump_json().encode() + b"\n"
                durable_files.append(self._path, line)
            except OSError as error:
                raise WardroundError(
                    Code.STATE,
                    f"The coordinator cannot store the decision: {reason(error)}.",
                    remedy="Nothing was decided. Its operator makes room on its disk; then decide "
                    "again.",
                ) from None
            self._read = grown
            return new

    def _keep(self, name: str, report: str) -> None:
        """The report that an approval names, for whoever asks for it later. Raises OSError."""
        if report:
            folder = self._path.with_name(AUDITS)
            durable_files.make_folder(folder)
            durable_files.write(folder / f"{name}.json", report.encode())

    def _history(self) -> DecisionHistory:
        if self._read is None:
            try:
                self._read = _load(self._path, self._key.public_key)
            except (OSError, ValidationError, WardroundError):
                raise WardroundError(
                    Code.STATE,
                    f"The record of decisions {self._path} is damaged, or of another signing key.",
                    remedy="Its operator restores it from a backup. Where the coordinator has a "
                    "new signing key, no older model can be verified: move the record away.",
                ) from None
        return self._read

    def _check_reviewer(self, account: str, signed: SignedDecision, decision: Decision) -> None:
        key = self._accounts.reviewers().get(account)
        if key is None:
            raise WardroundError(
                Code.REFUSED_POLICY,
                f"The account {account} is no reviewer with a key.",
                remedy="The coordinator's operator makes it one: `wardround coordinator account "
                f"key {account} KEY`, with what `wardround review key` shows.",
            )
        if (decision.reviewer, signed.reviewer_key) != (account, key):
            raise WardroundError(
                Code.REFUSED_POLICY,
                "The decision is signed by another reviewer's key, or a former one.",
                remedy=_MINE,
            )

    def _check_model(self, decision: Decision, proposed: Proposed) -> None:
        """Raises WardroundError(REFUSED_POLICY) where the model is none of this coordinator's, its
        study is the reviewer's own, or may not be approved."""
        tags = {RECORD: proposed.record, SIGNATURE: proposed.signature}
        signed = SignedRecord.of_tags(tags)
        what = f"{decision.model} version {decision.version}"
        if (
            signed is None
            or not signed.is_signed_by(self._key.public_key)
            or digest(signed.text.encode()) != decision.record
        ):
            raise WardroundError(
                Code.REFUSED_POLICY,
                f"This coordinator signed no model {what}.",
                remedy="`wardround models verify` says who did. A study that ran without a "
                "coordinator is nobody's to approve.",
            )
        record = signed.record
        if (record.model, record.version, record.study) != (
            decision.model,
            decision.version,
            decision.study,
        ):
            raise WardroundError(
                Code.REFUSED_POLICY,
                f"The decision names {what}, and the record another one.",
                remedy="Decide again.",
            )
        if (study := self._study(decision.study)) is None:
            raise WardroundError(
                Code.REFUSED_POLICY,
                f"The study of {what} is not known to this coordinator any more.",
                remedy="Its operator restores the study's folder, which says whose it was.",
            )
        if study.account == decision.reviewer:
            raise WardroundError(
                Code.REFUSED_POLICY,
                f"{what} is of {study.account}'s own study.",
                remedy="Another reviewer decides about it.",
            )
        if decision.verdict == "approved" and study.failed:
            raise WardroundError(
                Code.REFUSED_POLICY,
                f"{what} does not pass its study's gates: {'; '.join(study.failed)}.",
                remedy="Reject it, with the reason. Whoever launched the study runs another one "
                "that passes, or states other gates before it starts.",
            )
        why = ""
        if decision.verdict == "approved" and study.audited is not None:
            why = _unaudited(study.audited, proposed.audit)
        if why:
            raise WardroundError(
                Code.REFUSED_POLICY,
                f"{what} does not pass its study's gates: audit: {why}.",
                remedy="Run `wardround audit --study study.json` (the run in MLflow has the file) "
                "with this coordinator's release, and approve with --audit FOLDER/summary.json.",
            )

    def _check_change(self, decision: Decision, last: OpenedEntry | None) -> None:
        """Raises WardroundError(USAGE) where a decision does not follow on the last one."""
        what = f"{decision.model} version {decision.version}"
        before = None if last is None else last.decision
        if decision.verdict == "withdrawn" and (before is None or before.verdict != "approved"):
            raise WardroundError(
                Code.USAGE,
                f"{what} is not approved, so that there is nothing to withdraw.",
                remedy="`wardround review reject` says no to a candidate.",
            )
        if last is None or before is None:
            return
        if decision.verdict == "rejected" and before.verdict == "approved":
            raise WardroundError(
                Code.USAGE,
                f"{before.reviewer} has approved {what} on {before.time}.",
                remedy="`wardround review withdraw` takes an approval back.",
            )
        known = set(self._accounts.reviewers().values())
        if before.verdict == decision.verdict and last.entry.reviewer_key in known:
            raise WardroundError(
                Code.USAGE,
                f"{before.reviewer} has {before.verdict} {what} already, on {before.time}.",
                remedy="Nothing needs to be done: `wardround review list` shows it.",
            )


def _unaudited(study: Study, report: str) -> str:
    """Why a report is no evidence for a study's claim, in words; "" where it is. Raises
    WardroundError(MESSAGE) for what is no report."""
    if not report:
        return "no report was shown"
    return AuditEvidence.parse(report).objection(study, RELEASE)


def _load(path: Path, key: bytes) -> DecisionHistory:
    """Raises OSError, ValidationError, WardroundError for a file that is not what was written."""
    if not path.exists():
        return DecisionHistory()
    durable_files.cut_torn_line(path)
    lines = path.read_bytes().splitlines()
    return DecisionHistory().extended(key, map(SignedEntry.model_validate_json, lines))
