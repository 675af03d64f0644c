"""Shows on the status board and in the log what the site's governance has done."""

from __future__ import annotations

import logging
from typing import assert_never

from client.daemon.status import Board
from client.governance.notices import Answered, Closed, Debited, Notice, Proposed, Refused
from client.log_events import event


class Observer:
    """Takes the notices of one daemon's governance."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._standings: dict[str, str] = {}
        self.owing = False
        """A Ready has been sent whose Collect has not come: an attempt is in hand."""

    def __call__(self, notice: Notice) -> None:
        match notice:
            case Proposed():
                self._proposed(notice)
            case Debited(study, round_, attempt):
                self.owing = False
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
            case Answered():
                self._answered(notice)
            case Refused(_, error):
                self._board.count("refusals", error.code.value)
                self._board.fault(error)
                self._board.set(phase="idle")
            case Closed(study, outcome):
                self.owing = False
                self._standings.pop(study.digest, None)
                self._board.set(phase="idle", study=None, title=None, round=None, attempt=None)
                event("closed", study=study.digest, outcome=outcome)
            case _:
                assert_never(notice)

    def _proposed(self, notice: Proposed) -> None:
        study, standing = notice.study, notice.standing
        if self._standings.get(study.digest) != standing:  # a coordinator asks again and again
            self._standings[study.digest] = standing
            event(
                "study", study=study.digest, title=study.title, standing=standing, code=notice.code
            )

    def _answered(self, notice: Answered) -> None:
        self.owing = notice.kind == "ready"
        self._board.count("answers", notice.kind)
        self._board.set(
            phase="summing" if self.owing else "idle",
            bytes_sent=self._board.now.bytes_sent + notice.bytes,
        )
        event(
            "sent",
            study=notice.study,
            kind=notice.kind,
            round=notice.round,
            attempt=notice.attempt,
            bytes=notice.bytes,
        )
