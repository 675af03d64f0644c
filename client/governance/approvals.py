"""Approval: who may use this hospital's data for what, decided study by study.

    proposed -> refused (the policy or the budget says no)
             -> waiting (approval: hand) -> accepted, or rejected
             -> accepted (approval: rule) -> closed by the coordinator, or revoked here

Only an accepted study is answered. What was refused is looked at again when it is proposed again,
since rules and budget may have changed; what a person rejected or revoked stays so until a person
approves it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from client.governance.audit_replay import AuditEvent, Scalar
from client.governance.ledger import Ledger
from client.governance.ledger_rows import StudyStatus, record
from protocol.errors import Code, WardroundError
from protocol.study.study import Study

MOST_UNDECIDED = 200
"""Studies that may wait or stand refused at once: a coordinator cannot fill the disk."""
_WAITING: tuple[StudyStatus, ...] = ("waiting",)
_OPEN: tuple[StudyStatus, ...] = ("accepted",)
_UNDECIDED: tuple[StudyStatus, ...] = ("waiting", "refused")
_NOT_THE_STUDYS = frozenset({Code.LEDGER, Code.CLOCK, Code.INTERNAL})
_NEEDS = "Run `wardround-site studies` for the list."


@dataclass(frozen=True)
class ListedStudy:
    """One study as `wardround-site studies` lists it. Times are UTC in ISO 8601."""

    digest: str
    title: str
    task: str
    mode: str
    state: StudyStatus
    code: Code | None
    reason: str
    seen: str
    changed: str
    attempts: tuple[int, int]
    """The last attempt answered, of those planned."""


@dataclass(frozen=True)
class DryRunAnswer:
    """What a study would be answered, and which keys of the policy forbid it."""

    state: Literal["accepted", "waiting", "refused"]
    code: Code | None = None
    rules: tuple[str, ...] = ()


class Approvals:
    """Decisions about studies, each durable and audited."""

    def __init__(self, ledger: Ledger, site: str, roster: Collection[str]) -> None:
        """roster: the sites whose identity keys this site knows."""
        self._state, self._audit, self.policy = ledger.state, ledger.audit, ledger.policy
        self._ledger, self._site, self._roster = ledger, site, frozenset(roster)

    def propose(
        self, study: Study, *, patients: int | None = None
    ) -> tuple[Literal["accepted", "waiting", "refused"], Code | None]:
        """What the site answers to a proposal, and why where it refuses. Records a new study.

        patients: of this site's cohort, where it is known already. Raises WardroundError(LEDGER),
        (CLOCK) where nothing can be recorded.
        """
        stand = self._stand(study.digest)
        if stand is not None and stand[0] not in _UNDECIDED:
            return _answer(*stand)
        try:
            self.check(study)
            if patients is not None:
                self.policy.check_patients(patients)
            self._set(study, "waiting", AuditEvent.STUDY_SEEN, among=_UNDECIDED)
            if self.policy.approval == "rule":
                self._ledger.accept(study, by="rule", among=_WAITING)
        except WardroundError as error:
            if error.code in _NOT_THE_STUDYS:
                raise
            self._set(
                study,
                "refused",
                AuditEvent.STUDY_REFUSED,
                error.code,
                error.message,
                among=_UNDECIDED,
            )
        return _answer(*self._known(study.digest))

    def approve(self, study: Study) -> None:
        """Accepts by hand: a study that waits, or one rejected, revoked or refused before.

        Raises WardroundError: USAGE for a study that was never proposed, REFUSED_POLICY,
        REFUSED_STUDY or REFUSED_BUDGET where site.yaml forbids it still.
        """
        self.policy.check(study, site=self._site, roster=self._roster)
        self._ledger.accept(study, by="hand", among=("waiting", "refused", "rejected", "revoked"))

    def reject(self, study: Study, *, reason: str = "") -> None:
        """Refuses by hand a study not yet accepted. Raises WardroundError(USAGE)."""
        self._known(study.digest)
        among: tuple[StudyStatus, ...] = ("waiting", "refused", "rejected", "revoked")
        self._set(study, "rejected", AuditEvent.STUDY_REJECTED, reason=reason, among=among)
        self._require(study, "rejected")

    def revoke(self, study: Study, *, reason: str = "") -> None:
        """Stops an accepted study at its next message. What it has not debited is free again.

        Raises WardroundError(USAGE).
        """
        self._known(study.digest)
        self._set(
            study,
            "revoked",
            AuditEvent.STUDY_REVOKED,
            Code.REVOKED,
            reason,
            among=("accepted", "revoked"),
        )
        self._require(study, "revoked")

    def close(self, study: Study, outcome: str) -> None:
        """The coordinator has ended the study. One that was refused stays so."""
        if self._stand(study.digest) is not None:
            among: tuple[StudyStatus, ...] = ("accepted", "waiting")
            self._set(study, "closed", AuditEvent.STUDY_CLOSED, reason=outcome, among=among)

    def recheck(self) -> tuple[str, ...]:
        """Holds open studies, newest first, against today's rules; revokes what they forbid.

        To be called when the daemon starts: a study accepted under other rules is not answered
        before. Returns the titles of those revoked.
        """
        with self._state.reading() as db:
            rows = db.execute(
                "SELECT document FROM studies WHERE state = 'accepted' AND policy != ?"
                " ORDER BY seen DESC",
                (self.policy.digest,),
            ).fetchall()
        revoked, kept = [], []
        for (document,) in rows:
            study = Study.parse(document)
            try:
                self.check(study)
                kept.append(study)
            except WardroundError as error:
                if error.code in _NOT_THE_STUDYS:
                    raise
                self._set(
                    study,
                    "revoked",
                    AuditEvent.STUDY_REVOKED,
                    error.code,
                    error.message,
                    among=_OPEN,
                )
                revoked.append(study.title)
        for study in kept:
            self._ledger.accept(study, by="policy", among=_OPEN)
        return tuple(revoked)

    def studies(self) -> tuple[ListedStudy, ...]:
        """Every study this site has seen, oldest first."""
        with self._state.reading() as db:
            rows = db.execute(
                "SELECT document, state, code, reason, seen, changed, attempt FROM studies"
                " ORDER BY seen, digest"
            ).fetchall()
        return tuple(_listed(*row) for row in rows)

    def accepted(self) -> tuple[Study, ...]:
        """The studies that are open here, oldest first."""
        with self._state.reading() as db:
            rows = db.execute(
                "SELECT document FROM studies WHERE state = 'accepted' ORDER BY seen, digest"
            ).fetchall()
        return tuple(Study.parse(document) for (document,) in rows)

    def waiting(self) -> int:
        """How many studies wait for a person's decision."""
        with self._state.reading() as db:
            row = db.execute("SELECT COUNT(*) FROM studies WHERE state = 'waiting'").fetchone()
        return int(row[0])

    def find(self, digest: str) -> tuple[Study, StudyStatus]:
        """The one study whose digest begins so. Raises WardroundError(USAGE)."""
        with self._state.reading() as db:
            rows = db.execute(
                "SELECT document, state FROM studies WHERE substr(digest, 1, ?) = ? LIMIT 2",
                (len(digest), digest),
            ).fetchall()
        if len(rows) != 1 or len(digest) < 4:
            what = "More than one study begins" if len(rows) == 2 else "No study here begins"
            raise WardroundError(Code.USAGE, f"{what} with {digest[:64]!r}.", remedy=_NEEDS)
        return Study.parse(rows[0][0]), rows[0][1]

    def check(self, study: Study) -> tuple[float, float]:
        """Holds a study against rules and budget: (its epsilon, epsilon of all with it) at the
        policy's delta. Raises WardroundError: REFUSED_POLICY, REFUSED_STUDY, REFUSED_BUDGET."""
        self._check_rules(study)
        return self._ledger.check_caps(study)

    def weigh(self, study: Study) -> DryRunAnswer:
        """How the study would be answered if it were proposed now; records nothing.

        Raises WardroundError(LEDGER) where the budget cannot be read.
        """
        stand = self._stand(study.digest)
        if stand is not None and stand[0] not in _UNDECIDED:
            return DryRunAnswer(*_answer(*stand))
        rules = dict.fromkeys(self.policy.objections(study, self._site))
        code = None
        for check in (self._check_rules, self._ledger.check_caps):
            try:
                check(study)
            except WardroundError as error:
                if error.code in _NOT_THE_STUDYS:
                    raise
                code = code or error.code
                rules |= {error.rule: None} if error.rule else {}
        if code is not None:
            return DryRunAnswer("refused", code, tuple(rules))
        return DryRunAnswer("accepted" if self.policy.approval == "rule" else "waiting")

    def _check_rules(self, study: Study) -> None:
        self.policy.check(study, site=self._site, roster=self._roster)

    def _stand(self, digest: str) -> tuple[StudyStatus, Code | None] | None:
        with self._state.reading() as db:
            row = db.execute(
                "SELECT state, code FROM studies WHERE digest = ?", (digest,)
            ).fetchone()
        return (row[0], Code(row[1]) if row[1] else None) if row else None

    def _known(self, digest: str) -> tuple[StudyStatus, Code | None]:
        stand = self._stand(digest)
        if stand is None:
            raise WardroundError(Code.USAGE, "This site never saw this study.", remedy=_NEEDS)
        return stand

    def _require(self, study: Study, wanted: StudyStatus) -> None:
        state = self._known(study.digest)[0]
        if state != wanted:
            raise WardroundError(
                Code.USAGE, f"This study is {state}; it cannot be {wanted}.", remedy=_NEEDS
            )

    def _set(
        self,
        study: Study,
        stand: StudyStatus,
        event: AuditEvent,
        code: Code | None = None,
        reason: str = "",
        *,
        among: Collection[StudyStatus],
    ) -> None:
        """Writes the standing and its audit entry. Nothing happens where that is how it stands,
        or where a decision taken meanwhile put it outside of `among`."""
        now = self._state.clock().isoformat(timespec="milliseconds")
        with self._state.transaction() as db:
            new = record(db, study, stand, now)
            if new:
                _refuse_flood(db, study.digest)
            else:
                row = db.execute(
                    "SELECT state, code FROM studies WHERE digest = ?", (study.digest,)
                ).fetchone()
                if row == (stand, code) or row[0] not in among:
                    return
            db.execute(
                "UPDATE studies SET state = ?, code = ?, reason = ?, changed = ? WHERE digest = ?",
                (stand, code, reason[:300], now, study.digest),
            )
            # A reason typed by hand stays out of the log: it might name a patient.
            fields: dict[str, Scalar] = {
                "study": study.digest,
                "task": study.task.name,
                "code": code,
            }
            if event == AuditEvent.STUDY_CLOSED:
                fields["outcome"] = reason
            self._audit.append_within(db, event, fields)


def _refuse_flood(db: sqlite3.Connection, newest: str) -> None:
    undecided = db.execute(
        "SELECT COUNT(*) FROM studies WHERE state IN ('waiting', 'refused')"
    ).fetchone()[0]
    if undecided > MOST_UNDECIDED:
        db.execute(
            "DELETE FROM studies WHERE digest = (SELECT digest FROM studies WHERE state ="
            " 'refused' AND digest != ? AND digest NOT IN (SELECT study FROM plans)"
            " ORDER BY changed LIMIT 1)",
            (newest,),
        )
        still = db.execute("SELECT COUNT(*) FROM studies WHERE state = 'waiting'").fetchone()[0]
        if still > MOST_UNDECIDED:
            raise WardroundError(
                Code.REFUSED_POLICY,
                f"{MOST_UNDECIDED} studies wait for approval here already.",
                remedy="Approve or reject some of them.",
            )


def _answer(
    stand: StudyStatus, code: Code | None
) -> tuple[Literal["accepted", "waiting", "refused"], Code | None]:
    if stand == "accepted" or stand == "waiting":
        return stand, None
    if stand == "closed":
        return "refused", Code.REFUSED_REPLAY
    return "refused", code or (Code.REVOKED if stand == "revoked" else Code.REFUSED_POLICY)


def _listed(
    document: bytes,
    state: StudyStatus,
    code: str | None,
    reason: str,
    seen: str,
    changed: str,
    attempt: int,
) -> ListedStudy:
    study = Study.parse(document)
    return ListedStudy(
        digest=study.digest,
        title=study.title,
        task=study.task.name,
        mode=study.privacy.mode,
        state=state,
        code=Code(code) if code else None,
        reason=reason,
        seen=seen,
        changed=changed,
        attempts=(min(attempt, study.aggregation.attempts), study.aggregation.attempts),
    )
