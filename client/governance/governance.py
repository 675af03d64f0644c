"""The site's governance: policy, approvals, ledger and audit log behind one interface."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Callable, Collection, Mapping
from datetime import datetime

from client.config.site_config import SiteConfig
from client.config.site_roster import SiteRoster
from client.governance.approvals import Approvals, DryRunAnswer, ProposalStatus
from client.governance.audit import Audit, SecondClock
from client.governance.audit_replay import AuditEvent, Scalar
from client.governance.database import SiteState, utc_now
from client.governance.exact_releases import other_rows, rows_allowed
from client.governance.ledger import Ledger
from client.governance.notices import Answered, Closed, Debited, Notice, Proposed, Refused
from client.governance.patient_names import confirm
from protocol.errors import Code, WardroundError
from protocol.identity import Identity
from protocol.release import Sender
from protocol.study.study import Study
from protocol.study.vector_layout import Sections
from protocol.untrusted import Throttle
from protocol.wire.messages import AcceptedBy, Ending, Frame, Ready, Share, frame

_log = logging.getLogger("wardround.site")
_FIRST_RELEASE = Sender("0.1.0", 1)
_REFUSALS, _WINDOW = 20, 600.0
"""Refusals of one code that are recorded one by one in so many seconds."""


class SiteGovernance:
    """One open state folder under one site.yaml. `close_state` releases it."""

    def __init__(
        self,
        config: SiteConfig,
        identity: Identity,
        *,
        daemon: bool = False,
        clock: Callable[[], datetime] = utc_now,
        second_clock: SecondClock = lambda: None,
        notify: Callable[[Notice], None] = lambda notice: None,
    ) -> None:
        """With `daemon`, locks out a second daemon and checks open studies against the current
        rules. second_clock: as `Audit` asks it. notify: receives a notice of each event, for a
        display or a log; must not raise. Raises WardroundError: STATE, LEDGER, CLOCK."""
        self.config, self.policy, self._notify = config, config.policy, notify
        self._refusals, self._refusing = Throttle(_REFUSALS, _WINDOW), threading.Lock()
        self._charging = threading.Lock()
        """No study is debited between a renaming of patients and what it revokes."""
        public_key = identity.public_key.hex()
        self.roster = SiteRoster(config)
        self.state = SiteState.open(
            config.state, config.site, public_key, daemon=daemon, clock=clock
        )
        try:
            self.audit = Audit(
                self.state, config.site, identity, rationed=daemon, second_clock=second_clock
            )
            self.ledger = Ledger(self.state, self.audit, config.policy, config.names_of)
            self.approvals = Approvals(self.ledger, config.site, self.roster)
            if daemon:
                self.audit.append(AuditEvent.DAEMON_STARTED, rules=config.policy.digest)
                self._revoke_forbidden()
        except BaseException:
            self.state.close()
            raise

    def propose(self, study: Study) -> tuple[ProposalStatus, Code | None]:
        """Returns a study's standing here, and why; records a new study."""
        standing, code = self.approvals.propose(study)
        self._notify(Proposed(study, standing, code))
        return standing, code

    def weigh(self, study: Study, *, note: bool) -> DryRunAnswer:
        """Returns how the study would be answered now. With `note`, the audit log records that it
        was asked, and nothing else."""
        weighed = self.approvals.weigh(study)
        if note:
            fields: dict[str, Scalar] = {"study": study.digest, "task": study.task.name}
            fields |= {"answer": weighed.state, "code": weighed.code}
            self.audit.append(AuditEvent.STUDY_ASKED, **fields)
        return weighed

    def confirm_names(self, study: Study, patients: Mapping[str, Mapping[str, str]]) -> None:
        """Told before a study's first debit by which names the site's patients go (`confirm`).
        Where some were renamed, what was spent is charged to every patient, and open studies that
        this leaves no budget are revoked. Raises WardroundError(LEDGER)."""
        names = self.config.names_of(study.task.name)
        with self._charging:
            if confirm(self.state, self.audit, study, names, patients):
                _log.warning("patients were renamed: what was spent is charged to every patient")
                self._revoke_forbidden(unchanged=True)

    def _revoke_forbidden(self, *, unchanged: bool = False) -> None:
        for title in self.approvals.recheck(unchanged=unchanged):
            _log.warning("study revoked, today's rules forbid it", extra={"title": title})

    def admit(self, study: Study) -> None:
        """Raises WardroundError unless the study may be worked on at this moment: as
        `Ledger.admit` does, and OUTSIDE_HOURS before the end of a period that it asks about."""
        self.ledger.admit(study.digest)
        scored = study.query and study.query.scored
        if scored and self.state.today()[: len(scored.until)] <= scored.until:
            raise WardroundError(
                Code.OUTSIDE_HOURS,
                f"The query is about a period that ends with {scored.until}.",
                remedy="It is answered once that month (UTC) is over; its budget is reserved.",
            )

    def debit(self, study: Study, round_: int, attempt: int, sections: Sections) -> None:
        """Charges an attempt, durably when it returns. Raises as `Ledger.debit` does."""
        with self._charging:
            self.ledger.debit(
                study, round_, attempt, train=sections.train, evaluate=sections.evaluate
            )
        self._notify(Debited(study, round_, attempt))

    def last_attempt(self, study: Study) -> int:
        """Returns the number of the last attempt that was debited; 0 before the first."""
        return self.ledger.last_attempt(study.digest)

    def accepted_by(self, study: Study) -> AcceptedBy:
        """Returns whether a person or the rules accepted a study, by the audit log."""
        return self.approvals.accepted_by(study)

    def take_part(self, study: Study, round_: int, participants: Collection[str]) -> None:
        """Notes among whom a sum is that this site is about to add to, durably when it returns.
        Raises WardroundError(REFUSED_POLICY) where the round has asked for too many such sets."""
        self.ledger.take_part(study.digest, round_, participants)

    def fix_rows(self, study: Study, rows: str) -> None:
        """Notes the rows of an exact analysis, durably, the first time that it works on them. Of
        public data none are noted. Raises WardroundError(REFUSED_POLICY) for others than before."""
        if study.task.name in self.policy.public_data:
            return
        fields: dict[str, Scalar] = {"study": study.digest, "rows": rows}
        with self.state.transaction() as db:
            if not rows_allowed(db, study, rows):
                raise other_rows()
            noted = db.execute(
                "SELECT 1 FROM audit WHERE event = ? AND json_extract(fields, '$.study') = ?"
                " AND json_extract(fields, '$.rows') = ?",
                (AuditEvent.ROWS_FIXED, study.digest, rows),
            ).fetchone()
            if noted is None:
                self.audit.append_within(db, AuditEvent.ROWS_FIXED, fields)

    def end(self, study: Study, why: str) -> None:
        """Revokes a study in which this site can add to no further sum."""
        self.approvals.revoke(study, reason=why)

    def answered(self, answer: Ready | Share, sent: Frame, *, again: bool = False) -> None:
        """Records an answer before it leaves: its size, its SHA-256 and, of a Ready, the signature
        by which `witness` recognises it. Raises WardroundError(LEDGER) where it cannot be recorded,
        so that nothing leaves unrecorded; as `Audit.ration` for one that was sent before."""
        if again:
            self.audit.ration("message_answered again")
        hashed = hashlib.sha256(sent.header)
        for chunk in sent.body:
            hashed.update(chunk)
        self.audit.append(
            AuditEvent.MESSAGE_ANSWERED,
            study=answer.study,
            kind=answer.type,
            round=answer.round,
            attempt=answer.attempt,
            bytes=sent.size,
            sha256=hashed.hexdigest(),
            **({"signature": answer.signature} if isinstance(answer, Ready) else {}),
        )
        self._notify(Answered(answer.study, answer.type, answer.round, answer.attempt, sent.size))

    def refused(self, study: str | None, error: WardroundError) -> None:
        """Records a refusal by its code in the audit log and with its text in the site's own log.
        Of more than _REFUSALS with one code in _WINDOW only the number is recorded, later: who
        sends garbage without end fills no disk. Never raises: the refusal stands even where it
        cannot be recorded."""
        with self._refusing:
            recorded, unrecorded = self._refusals.admit(error.code.value)
        if unrecorded:
            self._record_refusals({error.code.value: unrecorded})
        if recorded:
            _log.warning("refused: %s", error, extra={"study": study, "code": error.code.value})
            self._record_refusal(study=study, code=error.code.value)
        self._notify(Refused(study, error))

    def _record_refusals(self, counts: Mapping[str, int]) -> None:
        """Code -> refusals that were not recorded one by one."""
        for code, count in counts.items():
            _log.warning("refused as often again", extra={"code": code, "count": count})
            self._record_refusal(study=None, code=code, count=count)

    def _record_refusal(self, **fields: Scalar) -> None:
        try:
            self.audit.append(AuditEvent.MESSAGE_REFUSED, **fields)
        except WardroundError as unwritten:
            _log.error("the refusal could not be noted: %s", unwritten)

    def witness(self, ready: Ready) -> None:
        """Looks a Ready that was signed here up in the audit log, which has the signature of every
        one sent (release 0.1.0 logged the SHA-256 of the header instead).

        The signature does not cover study, round and attempt, so they are taken from the log, not
        from the message: nobody can present an old Ready as one that the log lacks. Raises
        WardroundError(LEDGER) where the log lacks it: this state is an older copy.
        """
        with self.state.reading() as db:
            for (text,) in db.execute(
                "SELECT fields FROM audit WHERE event = ?", (AuditEvent.MESSAGE_ANSWERED,)
            ):
                fields = json.loads(text)
                if "signature" in fields:
                    if fields["signature"] == ready.signature:
                        return
                    continue
                place = {name: fields[name] for name in ("study", "round", "attempt")}
                header = frame(ready.model_copy(update=place), to=_FIRST_RELEASE).header
                if hashlib.sha256(header).hexdigest() == fields["sha256"]:
                    return
        self.ledger.witness(ready.study, ready.attempt)

    def known(self, digest: str) -> Study | None:
        """Returns a study that was proposed here."""
        return self.approvals.known(digest)

    def close(self, study: Study, outcome: Ending) -> None:
        """Notes that a study has ended, or rests; what its plan did not use may then be spent by
        others, unless it is reserved until a day that the study states."""
        self.approvals.close(study, outcome)
        self._notify(Closed(study, outcome))

    def close_state(self) -> None:
        """Releases the state folder, in which everything is durable already but the number of
        refusals that were not recorded one by one."""
        self._record_refusals(self._refusals.held_back())
        self.state.close()
