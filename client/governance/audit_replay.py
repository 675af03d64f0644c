"""What the audit log tells, and whether the ledger's tables say the same.

The log is signed and chained, the tables are not: whoever can write the file could accept a study
nobody approved, weaken a plan or drop a debit. Reading the log again finds it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from enum import StrEnum

from client.governance.ledger_rows import plan_rows
from protocol.errors import Code, WardroundError
from protocol.study.study import Study

Scalar = str | int | float | bool | None


class Happened(StrEnum):
    """The vocabulary of the log."""

    STUDY_ASKED = "study_asked"
    STUDY_SEEN = "study_seen"
    STUDY_ACCEPTED = "study_accepted"
    STUDY_REFUSED = "study_refused"
    STUDY_REJECTED = "study_rejected"
    STUDY_REVOKED = "study_revoked"
    STUDY_CLOSED = "study_closed"
    PRIVACY_DEBITED = "privacy_debited"
    MESSAGE_ANSWERED = "message_answered"
    MESSAGE_REFUSED = "message_refused"
    OPERATOR = "operator"
    DAEMON_STARTED = "daemon_started"
    DAEMON_STOPPED = "daemon_stopped"
    ACKNOWLEDGED = "acknowledged"


_STANDING: dict[str, str] = {
    Happened.STUDY_SEEN: "waiting",
    Happened.STUDY_ACCEPTED: "accepted",
    Happened.STUDY_REFUSED: "refused",
    Happened.STUDY_REJECTED: "rejected",
    Happened.STUDY_REVOKED: "revoked",
    Happened.STUDY_CLOSED: "closed",
}


class Told:
    """Standings and debits as the log tells them."""

    def __init__(self) -> None:
        self._standing: dict[str, str] = {}
        self._planned: set[str] = set()
        self._debits: set[tuple[str, int, str, int, int]] = set()

    def add(self, event: str, fields: Mapping[str, Scalar]) -> None:
        """Takes in one entry; entries come in their order."""
        study = str(fields.get("study"))
        if event in _STANDING:
            self._standing[study] = _STANDING[event]
        if event in (Happened.STUDY_ACCEPTED, Happened.PRIVACY_DEBITED):
            self._planned.add(study)
        if event == Happened.PRIVACY_DEBITED:
            for part in ("train", "evaluate"):
                count = _whole(fields.get(part, 0))
                if count:
                    place = _whole(fields["attempt"]), part, _whole(fields["round"])
                    self._debits.add((study, *place, count))

    def compare(self, db: sqlite3.Connection) -> None:
        """Raises WardroundError(AUDIT) where a table says otherwise."""
        rows = db.execute("SELECT study, attempt, part, round, count FROM debits").fetchall()
        if set(rows) != self._debits:
            raise _differs("debits")
        totals: dict[tuple[str, str], int] = {}
        for study, _, part, _, count in rows:
            totals[study, part] = totals.get((study, part), 0) + count
        plans = {
            (study, part): (text, planned, debited)
            for study, part, text, planned, debited in db.execute(
                "SELECT study, part, event, planned, debited FROM plans"
            )
        }
        standing = {}
        for name, document, state in db.execute("SELECT digest, document, state FROM studies"):
            standing[name] = state
            study = Study.parse(document)
            expected = plan_rows(study) if name in self._planned else {}
            for part, row in expected.items():
                if plans.pop((name, part), None) != (*row, totals.get((name, part), 0)):
                    raise _differs("plans")
            if study.digest != name or (state == "accepted" and not expected):
                raise _differs("studies")
        if plans:
            raise _differs("plans")
        for name, state in self._standing.items():
            if standing.pop(name, "refused") != state:
                raise _differs("studies")
        if standing:
            raise _differs("studies")


def _whole(value: Scalar) -> int:
    return value if isinstance(value, int) else 0


def _differs(what: str) -> WardroundError:
    return WardroundError(
        Code.AUDIT,
        f"The ledger's {what} are not those of the audit log.",
        remedy="Put the newest backup back, then acknowledge it; keep this one as evidence.",
    )
