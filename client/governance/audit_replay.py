"""Replays the audit log and compares the result with the ledger's tables.

The log is signed and chained, the tables are not: whoever can write the file could accept a study
that nobody approved, weaken a plan or drop a debit. The comparison reveals it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from enum import StrEnum

from client.governance.ledger_rows import EXACT, PUBLIC, parse_event, plan_digest, plan_of
from protocol.document import digest
from protocol.errors import Code, WardroundError
from protocol.study.study import Study

Scalar = str | int | float | bool | None


class AuditEvent(StrEnum):
    """What an entry of the log records."""

    STUDY_ASKED = "study_asked"
    STUDY_SEEN = "study_seen"
    STUDY_ACCEPTED = "study_accepted"
    STUDY_REFUSED = "study_refused"
    STUDY_REJECTED = "study_rejected"
    STUDY_REVOKED = "study_revoked"
    STUDY_CLOSED = "study_closed"
    PRIVACY_DEBITED = "privacy_debited"
    PATIENTS_RENAMED = "patients_renamed"
    MESSAGE_ANSWERED = "message_answered"
    MESSAGE_REFUSED = "message_refused"
    OPERATOR = "operator"
    DAEMON_STARTED = "daemon_started"
    DAEMON_STOPPED = "daemon_stopped"
    ACKNOWLEDGED = "acknowledged"
    ROSTER_PERMITTED = "roster_permitted"
    ROWS_FIXED = "rows_fixed"
    PATIENTS_SCORED = "patients_scored"
    CLOCK_CORRECTED = "clock_corrected"


_STANDING: dict[str, str] = {
    AuditEvent.STUDY_SEEN: "waiting",
    AuditEvent.STUDY_ACCEPTED: "accepted",
    AuditEvent.STUDY_REFUSED: "refused",
    AuditEvent.STUDY_REJECTED: "rejected",
    AuditEvent.STUDY_REVOKED: "revoked",
}


class AuditReplay:
    """The studies' standings, plans and debits as the log records them."""

    def __init__(self) -> None:
        self._standing: dict[str, str] = {}
        self._plans: dict[str, str | None] = {}
        self._names: dict[str, str] = {}
        self._debits: set[tuple[str, int, str, int, int]] = set()

    def add(self, happened: str, fields: Mapping[str, Scalar]) -> None:
        """Applies the next entry of the log."""
        study = str(fields.get("study"))
        if happened in _STANDING:
            self._standing[study] = _STANDING[happened]
        if happened == AuditEvent.STUDY_CLOSED:
            self._standing[study] = str(fields["outcome"])
        if happened in (AuditEvent.STUDY_ACCEPTED, AuditEvent.PRIVACY_DEBITED):
            plan = fields.get("plan")  # release 0.1.0 logged none; the first acceptance counts
            self._plans.setdefault(study, None if plan is None else str(plan))
        if happened == AuditEvent.STUDY_ACCEPTED:
            self._names[study] = str(fields.get("names", ""))
        if happened == AuditEvent.PATIENTS_RENAMED:  # of one study, or of all
            self._names = {} if fields["study"] is None else self._names | {study: ""}
        if happened == AuditEvent.PRIVACY_DEBITED:
            for part in ("train", "evaluate"):
                count = _whole(fields.get(part, 0))
                if count:
                    place = _whole(fields["attempt"]), part, _whole(fields["round"])
                    self._debits.add((study, *place, count))

    def compare(self, db: sqlite3.Connection) -> None:
        """Raises WardroundError(AUDIT) where a table differs from the log."""
        rows = db.execute("SELECT study, attempt, part, round, count FROM debits").fetchall()
        if set(rows) != self._debits:
            raise _differs("debits")
        totals: dict[tuple[str, str], int] = {}
        last: dict[str, int] = {}
        for study, attempt, part, _, count in rows:
            totals[study, part] = totals.get((study, part), 0) + count
            last[study] = max(last.get(study, 0), attempt)
        plans: dict[str, dict[str, tuple[str, int]]] = {}
        for study, part, text, planned, debited in db.execute(
            "SELECT study, part, event, planned, debited FROM plans"
        ):
            plans.setdefault(study, {})[part] = (text, planned)
            if totals.pop((study, part), 0) != debited:
                raise _differs("plans")
        if set(plans) != set(self._plans) or any(totals.values()):
            raise _differs("plans")
        standing = {}
        for name, document, state, attempt, names in db.execute(
            "SELECT digest, document, state, attempt, names FROM studies"
        ):
            standing[name] = state
            if digest(document) != name or (state == "accepted" and name not in plans):
                raise _differs("studies")
            if names != self._names.get(name, ""):  # fewer patients would be charged
                raise _differs("studies")
            if attempt < last.get(name, 0):  # a paid attempt could be repeated
                raise _differs("studies")
            if name in plans and not self._same_plan(name, document, plans.pop(name)):
                raise _differs("plans")
        if plans:
            raise _differs("plans")
        for name, state in self._standing.items():
            if standing.pop(name, "refused") != state:
                raise _differs("studies")
        if standing:
            raise _differs("studies")

    def _same_plan(self, study: str, document: bytes, rows: Mapping[str, tuple[str, int]]) -> bool:
        """Returns whether a plan's rows have the digest in the log; where release 0.1.0 logged
        none, whether they are what the study plans."""
        logged = self._plans[study]
        if logged is not None:
            return plan_digest(rows) == logged
        written = {
            part: (None if text == EXACT else parse_event(text), planned)
            for part, (text, planned) in rows.items()
            if text != PUBLIC  # 0.1.0 knew no public data
        }
        return written == plan_of(Study.parse(document))


def _whole(value: Scalar) -> int:
    return value if isinstance(value, int) else 0


def _differs(what: str) -> WardroundError:
    return WardroundError(
        Code.AUDIT,
        f"The ledger's {what} are not those of the audit log.",
        remedy="Put the newest backup back, then acknowledge it; keep this one as evidence.",
    )
