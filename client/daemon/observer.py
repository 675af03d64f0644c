"""Shows what the site's governance has done on the status board and in the log."""

from __future__ import annotations

import logging
import threading
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
        self._computing: set[str] = set()
        self._owed: set[str] = set()
        """Studies of which a Ready was sent whose Collect has not been answered yet."""
        self._lock = threading.Lock()

    @property
    def owes_share(self) -> bool:
        """Whether a study waits for a sum that this site has paid for."""
        return bool(self._owed)

    def __call__(self, notice: Notice) -> None:
        with self._lock:  # studies are worked on at the same time
            self._take_in(notice)
            if not isinstance(notice, Proposed):
                busy = "training" if self._computing else "summing" if self._owed else "idle"
                self._board.set(phase=busy)

    def _take_in(self, notice: Notice) -> None:
        match notice:
            case Proposed(study, standing, code):
                if self._standings.get(study.digest) != standing:  # studies are proposed repeatedly
                    self._standings[study.digest] = standing
                    facts = {"title": study.title, "standing": standing, "code": code}
                    event("study", logging.INFO, study=study.digest, **facts)
            case Debited(study, round_, attempt):
                self._owed.discard(study.digest)
                self._computing.add(study.digest)
                self._board.set(
                    study=study.digest,
                    title=study.title,
                    round=round_,
                    rounds=study.optimisation.rounds,
                    attempt=attempt,
                    debits=self._board.now.debits + 1,
                )
                event("debited", logging.DEBUG, study=study.digest, round=round_, attempt=attempt)
            case Answered(digest, kind):
                self._computing.discard(digest)
                (self._owed.add if kind == "ready" else self._owed.discard)(digest)
                self._board.count("answers", kind)
                self._board.set(bytes_sent=self._board.now.bytes_sent + notice.bytes)
                event("sent", **asdict(notice))
            case Refused(digest, error):
                self._computing.discard(digest or "")
                self._board.count("refusals", error.code.value)
                self._board.fault(error)
            case Closed(study, outcome):
                self._computing.discard(study.digest)
                self._owed.discard(study.digest)
                self._standings.pop(study.digest, None)
                if self._board.now.study == study.digest:
                    self._board.set(study=None, title=None, round=None, attempt=None)
                event("closed", study=study.digest, outcome=outcome)
            case _:
                assert_never(notice)
