"""Governance that is watched: what it decides shows in the log and the status, and nowhere else."""

from __future__ import annotations

import logging
from typing import Literal

from client.daemon.status import Board
from client.governance.approvals import Weighed
from client.governance.governance import SiteGovernance
from client.log_events import event
from protocol.errors import Code, WardroundError
from protocol.study.study import Study
from protocol.study.vector_layout import Sections
from protocol.wire.messages import Frame, Ready


class Observed:
    """A `client.daemon.site.Governance` around the site's own; adds no decision of its own."""

    def __init__(self, governance: SiteGovernance, board: Board) -> None:
        self._governance, self._board = governance, board
        self._told: dict[str, str] = {}
        self.owing = False
        """A Ready has been sent whose Collect has not come: an attempt is in hand."""

    def propose(
        self, study: Study
    ) -> tuple[Literal["accepted", "waiting", "refused"], Code | None]:
        state, code = self._governance.propose(study)
        if self._told.get(study.digest) != state:  # a coordinator asks again and again
            self._told[study.digest] = state
            event("study", study=study.digest, title=study.title, standing=state, code=code)
        return state, code

    def weigh(self, study: Study, *, note: bool) -> Weighed:
        return self._governance.weigh(study, note=note)

    def admit(self, study: Study) -> None:
        self._governance.admit(study)

    def debit(self, study: Study, round_: int, attempt: int, sections: Sections) -> None:
        self.owing = False
        self._governance.debit(study, round_, attempt, sections)
        self._board.set(
            phase="training",
            study=study.digest,
            title=study.title,
            round=round_,
            rounds=study.optimisation.rounds,
            attempt=attempt,
            debits=self._board.now.debits + 1,
        )
        event("debited", logging.DEBUG, study=study.digest, round=round_, attempt=attempt)

    def answered(
        self,
        study: str,
        kind: str,
        round_: int,
        attempt: int,
        sent: Frame,
        signature: str | None = None,
    ) -> None:
        self._governance.answered(study, kind, round_, attempt, sent, signature)
        self.owing = kind == "ready"
        self._board.count("answers", kind)
        self._board.set(
            phase="summing" if self.owing else "idle",
            bytes_sent=self._board.now.bytes_sent + sent.size,
        )
        event("sent", study=study, kind=kind, round=round_, attempt=attempt, bytes=sent.size)

    def refused(self, study: str | None, error: WardroundError) -> None:
        self._governance.refused(study, error)
        self._board.count("refusals", error.code.value)
        self._board.fault(error)
        self._board.set(phase="idle")

    def witness(self, ready: Ready) -> None:
        self._governance.witness(ready)

    def close(self, study: Study, outcome: str) -> None:
        self._governance.close(study, outcome)
        self.owing = False
        self._told.pop(study.digest, None)
        self._board.set(phase="idle", study=None, title=None, round=None, attempt=None)
        event("closed", study=study.digest, outcome=outcome)
