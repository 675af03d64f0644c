"""What the site's answers rest on: one door to policy, approvals, ledger and audit log."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Literal

from client.config.site_config import SiteConfig
from client.governance.approvals import Approvals, DryRunAnswer
from client.governance.audit import Audit
from client.governance.audit_replay import AuditEvent, Scalar
from client.governance.database import SiteState, utc_now
from client.governance.ledger import Ledger
from client.governance.notices import Answered, Closed, Debited, Notice, Proposed, Refused
from protocol.errors import Code, WardroundError
from protocol.identity import Identity
from protocol.release import Sender
from protocol.study.study import Study
from protocol.study.vector_layout import Sections
from protocol.wire.messages import Frame, Ready, frame

_log = logging.getLogger("wardround.site")
_FIRST_RELEASE = Sender("0.1.0", 1)


class SiteGovernance:
    """One open state folder under one site.yaml. `close_state` releases it."""

    def __init__(
        self,
        config: SiteConfig,
        identity: Identity,
        *,
        daemon: bool = False,
        clock: Callable[[], datetime] = utc_now,
        notify: Callable[[Notice], None] = lambda notice: None,
    ) -> None:
        """With `daemon`, holds the folder against a second daemon and holds open studies against
        today's rules. notify: is given a notice of all that happens, for a display or a log; it
        must not raise. Raises WardroundError: STATE, LEDGER, CLOCK."""
        self.config, self.policy, self._notify = config, config.policy, notify
        public_key = identity.public_key.hex()
        self.state = SiteState.open(
            config.state, config.site, public_key, daemon=daemon, clock=clock
        )
        try:
            self.audit = Audit(self.state, config.site, identity)
            self.ledger = Ledger(self.state, self.audit, config.policy)
            self.approvals = Approvals(self.ledger, config.site, config.roster)
            if daemon:
                self.audit.append(AuditEvent.DAEMON_STARTED, rules=config.policy.digest)
                for title in self.approvals.recheck():
                    _log.warning("study revoked, today's rules forbid it", extra={"title": title})
        except BaseException:
            self.state.close()
            raise

    def propose(
        self, study: Study
    ) -> tuple[Literal["accepted", "waiting", "refused"], Code | None]:
        """Where a study stands here, recorded when it is new."""
        standing, code = self.approvals.propose(study)
        self._notify(Proposed(study, standing, code))
        return standing, code

    def weigh(self, study: Study, *, note: bool) -> DryRunAnswer:
        """How the study would be answered now. With `note`, the audit log keeps that it was asked;
        nothing else is recorded."""
        weighed = self.approvals.weigh(study)
        if note:
            fields: dict[str, Scalar] = {"study": study.digest, "task": study.task.name}
            fields |= {"answer": weighed.state, "code": weighed.code}
            self.audit.append(AuditEvent.STUDY_ASKED, **fields)
        return weighed

    def admit(self, study: Study) -> None:
        """Raises WardroundError unless the study may be worked on at this moment."""
        self.ledger.admit(study.digest)

    def debit(self, study: Study, round_: int, attempt: int, sections: Sections) -> None:
        """Charges an attempt, durably when it returns. Raises as `Ledger.debit` does."""
        self.ledger.debit(study, round_, attempt, train=sections.train, evaluate=sections.evaluate)
        self._notify(Debited(study, round_, attempt))

    def answered(
        self,
        study: str,
        kind: str,
        round_: int,
        attempt: int,
        sent: Frame,
        signature: str | None = None,
    ) -> None:
        """Notes what leaves the site: its size, its SHA-256 and, of a Ready, its signature, by
        which `witness` knows it again. Raises WardroundError(LEDGER) where that cannot be noted,
        so that nothing leaves unseen."""
        hashed = hashlib.sha256(sent.header)
        for chunk in sent.body:
            hashed.update(chunk)
        self.audit.append(
            AuditEvent.MESSAGE_ANSWERED,
            study=study,
            kind=kind,
            round=round_,
            attempt=attempt,
            bytes=sent.size,
            sha256=hashed.hexdigest(),
            **({} if signature is None else {"signature": signature}),
        )
        self._notify(Answered(study, kind, round_, attempt, sent.size))

    def refused(self, study: str | None, error: WardroundError) -> None:
        """Notes a refusal, in the audit log by its code and in the site's own log with its text.
        Never raises: where even that cannot be written, the refusal stands."""
        _log.warning("refused: %s", error, extra={"study": study, "code": error.code.value})
        fields: dict[str, Scalar] = {"study": study, "code": error.code.value}
        try:
            self.audit.append(AuditEvent.MESSAGE_REFUSED, **fields)
        except WardroundError as unwritten:
            _log.error("the refusal could not be noted: %s", unwritten)
        self._notify(Refused(study, error))

    def witness(self, ready: Ready) -> None:
        """Holds a Ready signed here against the audit log, which has the signature of every one
        sent (what 0.1.0 wrote has the SHA-256 of its header instead).

        Study, round and attempt are not what the signature is over, so they are taken from the log
        and not from the message: nobody can pass an old Ready off as one that the log lacks.
        Raises WardroundError(LEDGER) where the log lacks it: this state is an older copy.
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

    def close(self, study: Study, outcome: str) -> None:
        """The study has ended; what its plan did not use is free again."""
        self.approvals.close(study, outcome)
        self._notify(Closed(study, outcome))

    def close_state(self) -> None:
        """Releases the state folder. What it holds is durable already."""
        self.state.close()
