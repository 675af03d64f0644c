"""The coordinator's side of an exact analysis: it carries shares from site to site, and chooses
nothing. What follows from them it computes as every site does (`protocol.exact.transcript`).

The shares are stored after each round, so that a coordinator which restarts goes on with them: an
exact sum is never asked for twice.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from protocol import durable_files
from protocol.document import canonical
from protocol.errors import Code, WardroundError
from protocol.exact.newton import not_converged
from protocol.exact.results import exact_tables
from protocol.exact.transcript import Roster, SignedShares, began, follow, opened, replay
from protocol.statistics.results import AnalysisResult
from protocol.study.exact_analysis import ExactAnalysis
from protocol.study.study import Study
from protocol.wire.exact_shares import from_wire, to_wire
from protocol.wire.messages import Opened

SHARES = "exact.json"
"""Beside the study's checkpoint."""


class ExactRun:
    """The shares so far, and what follows from them."""

    def __init__(
        self,
        study: Study,
        roster: Roster,
        path: Path | None,
        store: Callable[[Callable[[], None]], None],
    ) -> None:
        """path: where the shares are kept; those that are there are taken up. store: does the
        write. Raises WardroundError(STATE) for a file that cannot be read, and as `replay`."""
        self.study, self.roster = study, roster
        self._path, self._store = path, store
        self.shares: tuple[SignedShares, ...] = ()
        self.past = began(study)
        if path is not None and path.exists():
            self.shares = _read(study, path)
            self.past = replay(study, roster, self.shares)

    @property
    def round(self) -> int:
        """The round that comes next. Raises WardroundError(DIVERGED) where none is left."""
        model, last = self.study.exact, self.study.optimisation.rounds
        if isinstance(model, ExactAnalysis) and self.past.rounds > last:
            raise not_converged(model)
        return self.past.rounds + 1

    @property
    def over(self) -> bool:
        return self.past.over

    def check(self, shares: SignedShares) -> None:
        """Raises WardroundError where the sites would not take these for the next round's."""
        opened(self.study, self.roster, self.past, shares)

    def take(self, shares: SignedShares) -> tuple[int, ...]:
        """Goes on with one more round's, durably. Returns its opened integers. Raises as
        `replay`."""
        total = opened(self.study, self.roster, self.past, shares)
        past, taken = follow(self.study, self.past, shares, total), (*self.shares, shares)
        if (path := self._path) is not None:
            text = _written(taken)
            self._store(lambda: durable_files.write(path, text))
        self.past, self.shares = past, taken
        return total

    def result(self) -> AnalysisResult:
        return exact_tables(self.study, self.past)


def _written(shares: tuple[SignedShares, ...]) -> bytes:
    headers, words = to_wire(shares)
    body = base64.b64encode(words.view(np.uint8).data).decode()
    return canonical({"opened": [one.model_dump(mode="json") for one in headers], "words": body})


def _read(study: Study, path: Path) -> tuple[SignedShares, ...]:
    try:
        stored = json.loads(path.read_bytes())
        headers = [Opened.model_validate(one) for one in stored["opened"]]
        return from_wire(study, headers, [base64.b64decode(stored["words"])])
    except (OSError, ValueError, KeyError, TypeError):
        raise WardroundError(
            Code.STATE,
            f"{path} cannot be read: the exact sums of the study are lost.",
            remedy="Put it back from a backup, or ask for another study.",
        ) from None
