"""Shows what the site's governance has done on the status board and in the log."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import assert_never

from client.daemon.status import StatusBoard
from client.governance.notices import Answered, Closed, Debited, Notice, Proposed, Refused
from client.log_events import event


class Observer:
    """Receives the notices of one daemon's governance."""

    def __init__(self, board: StatusBoard) -> None:
        self._board = board
        self._standings: dict[str, str] = {}
        self.owes_share = False
        """Whether a Ready was sent whose Collect has not been answered yet."""

    def __call__(self, notice: Notice) -> None:
        match notice:
            case Proposed(study, standing, code):
                if self._standings.get(study.digest) != standing:  # studies are proposed repeatedly
                    self._standings[study.digest] = standing
                    facts = {"title": study.title, "standing": standing, "code": code}
                    event("study", logging.INFO, study=study.digest, **facts)
            case Debited(study, round_, attempt):
                self.owes_share = False
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
            case Answered(_, kind):
                self.owes_share = kind == "ready"
                self._board.count("answers", kind)
                phase, sent = "summing" if self.owes_share else "idle", self._board.now.bytes_sent
                self._board.set(phase=phase, bytes_sent=sent + notice.bytes)
                event("sent", **asdict(notice))
            case Refused(_, error):
                self._board.count("refusals", error.code.value)
                self._board.fault(error)
                self._board.set(phase="idle")
            case Closed(study, outcome):
                self.owes_share = False
                self._standings.pop(study.digest, None)
                self._board.set(phase="idle", study=None, title=None, round=None, attempt=None)
                event("closed", study=study.digest, outcome=outcome)
            case _:
                assert_never(notice)
