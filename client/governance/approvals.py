"""Approvals: a site's decision about each study that it was asked to take part in.

    proposed -> refused (forbidden by the policy or the budget)
             -> waiting (approval: hand) -> accepted, or rejected
             -> accepted (approval: rule) -> paused or failed: accepted again when it is resumed
                                          -> finished or cancelled by the coordinator
                                          -> revoked here

Only accepted studies are answered. A refused one is checked again when it is proposed again, since
rules and budget may have changed; one that a person rejected or revoked stays so until a person
approves it. `protocol.study.states` has the coordinator's words for the same life.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, assert_never

from client.config.known_roster import Roster
from client.governance.audit_replay import AuditEvent, Scalar
from client.governance.exact_releases import exact_releases, permission
from client.governance.ledger import Ledger
from client.governance.ledger_rows import StudyStatus, life_of, record
from protocol.errors import Code, WardroundError
from protocol.study.states import StudyState
from protocol.study.study import Study
from protocol.wire.messages import AcceptedBy, Ending

MAX_UNDECIDED = 200
"""Studies that may be waiting or refused at once, so that a coordinator cannot fill the disk."""
ProposalStatus = Literal["accepted", "waiting", "refused"]
_WAITING: tuple[StudyStatus, ...] = ("waiting",)
_OPEN: tuple[StudyStatus, ...] = ("accepted",)
_UNDECIDED: tuple[StudyStatus, ...] = ("waiting", "refused")
_RESUMABLE: tuple[StudyStatus, ...] = ("accepted", "paused", "failed")
_NOT_OPEN: tuple[StudyStatus, ...] = ("waiting", "refused", "rejected", "revoked")
_SITE_FAULTS = frozenset({Code.LEDGER, Code.CLOCK, Code.INTERNAL})
"""Errors for which a study cannot be blamed."""
_LIST_STUDIES = "Run `wardround-site studies` for the list."


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
    life: StudyState
    """Where the study stands, in the coordinator's words."""
    expires: str
    """The last day (UTC) for which the plan is reserved now; "" where it states none."""


@dataclass(frozen=True)
class DryRunAnswer:
    """How a study would be answered, and which keys of the policy forbid it."""

    state: ProposalStatus
    code: Code | None = None
    rules: tuple[str, ...] = ()


class Approvals:
    """Decides about studies; each decision is durable and audited."""

    def __init__(self, ledger: Ledger, site: str, roster: Roster) -> None:
        """roster: the other sites' identity keys."""
        self._state, self._audit, self.policy = ledger.state, ledger.audit, ledger.policy
        self._ledger, self._site, self._roster = ledger, site, roster

    def propose(self, study: Study) -> tuple[ProposalStatus, Code | None]:
        """Decides about a proposed study, and records it. Returns the answer and, of a refusal,
        the reason. Raises WardroundError(LEDGER) or (CLOCK) where nothing can be recorded."""
        decided = self._standing(study.digest)
        if decided is not None and decided[0] in _RESUMABLE:
            return self._resume(study)
        if decided is not None and decided[0] not in _UNDECIDED:
            return _answer(*decided)
        try:
            self.check(study)
            self._set(study, "waiting", AuditEvent.STUDY_SEEN, among=_UNDECIDED)
            if self.policy.approval == "rule":
                self._ledger.accept(study, by="rule", among=_WAITING)
        except WardroundError as error:
            self._refuse(study, "refused", AuditEvent.STUDY_REFUSED, error, among=_UNDECIDED)
        return _answer(*self._recorded(study.digest))

    def _resume(self, study: Study) -> tuple[ProposalStatus, Code | None]:
        """Goes on with a study that was accepted before; where that is impossible now it rests."""
        try:
            self._check_rules(study)
            self._ledger.resume(study)
        except WardroundError as error:
            if error.code in _SITE_FAULTS:
                raise
            return "refused", error.code
        return "accepted", None

    def approve(self, study: Study) -> None:
        """Accepts by hand a study that waits or was rejected, revoked or refused before.

        Raises WardroundError: USAGE for a study that was never proposed, REFUSED_POLICY,
        REFUSED_STUDY or REFUSED_BUDGET where site.yaml still forbids it.
        """
        self._check_rules(study)
        self._ledger.accept(study, by="hand", among=_NOT_OPEN)

    def reject(self, study: Study, *, reason: str = "") -> None:
        """Refuses by hand a study not yet accepted. Raises WardroundError(USAGE)."""
        self._recorded(study.digest)
        self._set(study, "rejected", AuditEvent.STUDY_REJECTED, reason=reason, among=_NOT_OPEN)
        self._require(study, "rejected")

    def revoke(self, study: Study, *, reason: str = "") -> None:
        """Stops a study at its next message, also one that is paused or has failed. What it has
        not debited may be spent by others. Raises WardroundError(USAGE)."""
        self._recorded(study.digest)
        among: tuple[StudyStatus, ...] = (*_RESUMABLE, "revoked")
        self._set(study, "revoked", AuditEvent.STUDY_REVOKED, Code.REVOKED, reason, among=among)
        self._require(study, "revoked")

    def close(self, study: Study, outcome: Ending) -> None:
        """Notes that the coordinator has ended the study, or that it rests. One that a person here
        has yet to accept goes on waiting while it rests; a refused one stays refused."""
        if self._standing(study.digest) is None:
            return
        among = _RESUMABLE if StudyState(outcome).rests else (*_RESUMABLE, *_WAITING)
        self._set(study, outcome, AuditEvent.STUDY_CLOSED, reason=outcome, among=among)

    def recheck(self, *, unchanged: bool = False) -> tuple[str, ...]:
        """Checks open studies, newest first, against the current rules; revokes what they forbid.

        To be called when the daemon starts: until then, studies accepted under other rules are not
        answered. With `unchanged`, those accepted under the current rules are checked too, since
        what is charged has grown. Returns the titles of those revoked.
        """
        with self._state.reading() as db:
            rows = db.execute(
                "SELECT document, state FROM studies"
                " WHERE (state = 'accepted' OR reserved(state, expires, ?))"
                " AND (policy != ? OR ?) ORDER BY seen DESC",
                (self._state.today(), self.policy.digest, unchanged),
            ).fetchall()
        revoked, allowed = [], []
        for document, state in rows:
            study = Study.parse(document)
            try:
                self.check(study)
                if state in _OPEN:  # one that rests is checked again when it is resumed
                    allowed.append(study)
            except WardroundError as error:
                self._refuse(study, "revoked", AuditEvent.STUDY_REVOKED, error, among=_RESUMABLE)
                revoked.append(study.title)
        for study in allowed:
            self._ledger.accept(study, by="policy", among=_OPEN)
        return tuple(revoked)

    def studies(self) -> tuple[ListedStudy, ...]:
        """Returns every study that was proposed here, oldest first."""
        with self._state.reading() as db:
            rows = db.execute(
                "SELECT document, state, code, reason, seen, changed, attempt, expires FROM studies"
                " ORDER BY seen, digest"
            ).fetchall()
        today = self._state.today()
        return tuple(_listed(today, Study.parse(document), *row) for document, *row in rows)

    def accepted(self) -> tuple[Study, ...]:
        """Returns the studies that are open here, oldest first."""
        with self._state.reading() as db:
            rows = db.execute(
                "SELECT document FROM studies WHERE state = 'accepted' ORDER BY seen, digest"
            ).fetchall()
        return tuple(Study.parse(document) for (document,) in rows)

    def accepted_by(self, study: Study) -> AcceptedBy:
        """Returns whether a person or the rules accepted a study last, by the audit log."""
        with self._state.reading() as db:
            row = db.execute(
                "SELECT json_extract(fields, '$.by') AS by FROM audit WHERE event = ?"
                " AND json_extract(fields, '$.study') = ? AND by IN ('hand', 'rule')"
                " ORDER BY seq DESC LIMIT 1",
                (AuditEvent.STUDY_ACCEPTED, study.digest),
            ).fetchone()
        by: AcceptedBy = row[0] if row else ""
        return by

    def resting(self) -> frozenset[str]:
        """Returns the digests of the studies that are paused or have failed, so may be resumed."""
        with self._state.reading() as db:
            rows = db.execute("SELECT digest FROM studies WHERE state IN ('paused', 'failed')")
            return frozenset(digest for (digest,) in rows.fetchall())

    def known(self, digest: str) -> Study | None:
        """Returns a study that was proposed here, by its whole digest."""
        with self._state.reading() as db:
            row = db.execute("SELECT document FROM studies WHERE digest = ?", (digest,)).fetchone()
        return Study.parse(row[0]) if row else None

    def waiting(self) -> int:
        """Returns how many studies wait for a person's decision."""
        with self._state.reading() as db:
            row = db.execute("SELECT COUNT(*) FROM studies WHERE state = 'waiting'").fetchone()
        return int(row[0])

    def find(self, digest: str) -> tuple[Study, StudyStatus]:
        """Returns the one study whose digest begins with `digest`, and its standing. Raises
        WardroundError(USAGE) where there is none, or more than one."""
        with self._state.reading() as db:
            rows = db.execute(
                "SELECT document, state FROM studies WHERE substr(digest, 1, ?) = ? LIMIT 2",
                (len(digest), digest),
            ).fetchall()
        if len(rows) != 1 or len(digest) < 4:
            what = "More than one study begins" if len(rows) == 2 else "No study here begins"
            raise WardroundError(Code.USAGE, f"{what} with {digest[:64]!r}.", remedy=_LIST_STUDIES)
        return Study.parse(rows[0][0]), rows[0][1]

    def revealed_by_subtraction(self, study: Study) -> tuple[str, ...]:
        """Returns the sites whose data could be told from this study's exact sums and earlier ones
        over other rosters. Raises WardroundError(LEDGER)."""
        with self._state.reading() as db:
            today = self._state.today()
            return exact_releases(db, study, today).revealed_by_subtraction(study)

    @property
    def today(self) -> str:
        """The day by which permits are judged, UTC: 2027-03-31."""
        return self._state.today()

    def permit_roster(self, study: Study) -> None:
        """Permits exact sums over the study's roster for good, in this study and in others."""
        with self._state.transaction() as db:
            self._audit.append_within(db, AuditEvent.ROSTER_PERMITTED, permission(study))

    def check(self, study: Study) -> tuple[float, float]:
        """Checks a study against rules and budget. Returns (its epsilon, epsilon of all studies
        with it), at the policy's delta. Raises WardroundError: REFUSED_POLICY, REFUSED_STUDY,
        REFUSED_BUDGET."""
        self._check_rules(study)
        return self._ledger.check_caps(study)

    def weigh(self, study: Study) -> DryRunAnswer:
        """Returns how the study would be answered if it were proposed now; records nothing.

        Raises WardroundError(LEDGER) where the budget cannot be read.
        """
        decided = self._standing(study.digest)
        accepted = decided is not None and decided[0] in _RESUMABLE
        if decided is not None and not accepted and decided[0] not in _UNDECIDED:
            return DryRunAnswer(*_answer(*decided))
        if self._ledger.holds(study):
            return DryRunAnswer("accepted")
        rules = dict.fromkeys(self.policy.objections(study, self._site, self.today))
        code = None
        for check in (self._check_rules, self._ledger.check_caps):
            try:
                check(study)
            except WardroundError as error:
                if error.code in _SITE_FAULTS:
                    raise
                code = code or error.code
                rules |= {error.rule: None} if error.rule else {}
        if code is not None:
            return DryRunAnswer("refused", code, tuple(rules))
        by_rule = accepted or self.policy.approval == "rule"
        return DryRunAnswer("accepted" if by_rule else "waiting")

    def _check_rules(self, study: Study) -> None:
        roster = self._roster.now().names
        self.policy.check(study, site=self._site, roster=roster, today=self.today)

    def _standing(self, digest: str) -> tuple[StudyStatus, Code | None] | None:
        with self._state.reading() as db:
            return _standing_in(db, digest)

    def _recorded(self, digest: str) -> tuple[StudyStatus, Code | None]:
        standing = self._standing(digest)
        if standing is None:
            what = "This site never saw this study."
            raise WardroundError(Code.USAGE, what, remedy=_LIST_STUDIES)
        return standing

    def _require(self, study: Study, wanted: StudyStatus) -> None:
        state, _ = self._recorded(study.digest)
        if state != wanted:
            what = f"This study is {state}; it cannot be {wanted}."
            raise WardroundError(Code.USAGE, what, remedy=_LIST_STUDIES)

    def _refuse(
        self,
        study: Study,
        status: StudyStatus,
        event: AuditEvent,
        error: WardroundError,
        *,
        among: Collection[StudyStatus],
    ) -> None:
        """Records that `error` forbids the study; raises it where the study is not to blame."""
        if error.code in _SITE_FAULTS:
            raise error
        self._set(study, status, event, error.code, error.message, among=among)

    def _set(
        self,
        study: Study,
        status: StudyStatus,
        event: AuditEvent,
        code: Code | None = None,
        reason: str = "",
        *,
        among: Collection[StudyStatus],
    ) -> None:
        """Writes a study's standing and its audit entry. Does nothing where it has that standing
        already, or where a decision taken meanwhile left it outside of `among`."""
        now = self._state.clock().isoformat(timespec="milliseconds")
        with self._state.transaction() as db:
            if record(db, study, status, now):
                _refuse_flood(db, study.digest)
            else:
                before = _standing_in(db, study.digest)
                if before is None or before == (status, code) or before[0] not in among:
                    return
            db.execute(
                "UPDATE studies SET state = ?, code = ?, reason = ?, changed = ? WHERE digest = ?",
                (status, code, reason[:300], now, study.digest),
            )
            fields: dict[str, Scalar] = {"study": study.digest, "task": study.task.name}
            fields["code"] = code
            if event == AuditEvent.STUDY_CLOSED:  # no reason typed by hand: it might name a patient
                fields["outcome"] = reason
            self._audit.append_within(db, event, fields)


def _standing_in(db: sqlite3.Connection, digest: str) -> tuple[StudyStatus, Code | None] | None:
    row = db.execute("SELECT state, code FROM studies WHERE digest = ?", (digest,)).fetchone()
    return (row[0], Code(row[1]) if row[1] else None) if row else None


def _refuse_flood(db: sqlite3.Connection, newest: str) -> None:
    """Deletes the oldest refused study where there are too many, or refuses the newest."""
    undecided = db.execute(
        "SELECT COUNT(*) FROM studies WHERE state IN ('waiting', 'refused')"
    ).fetchone()[0]
    if undecided > MAX_UNDECIDED:
        db.execute(
            "DELETE FROM studies WHERE digest = (SELECT digest FROM studies WHERE state ="
            " 'refused' AND digest != ? AND digest NOT IN (SELECT study FROM plans)"
            " ORDER BY changed LIMIT 1)",
            (newest,),
        )
        still = db.execute("SELECT COUNT(*) FROM studies WHERE state = 'waiting'").fetchone()[0]
        if still > MAX_UNDECIDED:
            raise WardroundError(
                Code.REFUSED_POLICY,
                f"{MAX_UNDECIDED} studies wait for approval here already.",
                remedy="Approve or reject some of them.",
            )


def _answer(status: StudyStatus, code: Code | None) -> tuple[ProposalStatus, Code | None]:
    match status:
        case "accepted" | "waiting":
            return status, None
        case "finished" | "cancelled" | "paused" | "failed":
            return "refused", Code.REFUSED_REPLAY
        case "revoked":
            return "refused", code or Code.REVOKED
        case "refused" | "rejected":
            return "refused", code or Code.REFUSED_POLICY
    assert_never(status)


def _listed(
    today: str,
    study: Study,
    state: StudyStatus,
    code: str | None,
    reason: str,
    seen: str,
    changed: str,
    attempt: int,
    expires: str,
) -> ListedStudy:
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
        life=life_of(state, expires, today),
        expires=expires,
    )
