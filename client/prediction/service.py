"""Scores pictures as they become ready, and sends the reports, until it is told to stop."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from client.config.site_config import SiteConfig
from client.data.dicom.index.changes import IndexChanges
from client.governance.audit import Audit
from client.log_events import event
from client.prediction.delivery import deliver
from client.prediction.fetched_models import bundle_file
from client.prediction.scoring_run import run
from client.prediction.selection import NEW
from client.prediction.state import PredictionState
from protocol.errors import Code, WardroundError

_EVERY, _ANYWAY, _AFTER_ERROR = 3.0, 30.0, 60.0
"""Seconds from the end of a run to the next one, where the index of images does not change: of a
model that reads records too, of one that reads pictures alone, and of one that was refused."""
_BREATH = 1.0
"""Seconds after an error in which nothing is tried."""


class PredictionService:
    """One model at one site. site.yaml is read each time, so that a model which is withdrawn scores
    nobody from then on, and NAME@approved is the version that was approved last."""

    def __init__(self, site_yaml: Path, model: str, audit: Audit) -> None:
        """model: as `fetched_models.bundle_file` has it."""
        self._site_yaml, self._model, self._audit = site_yaml, model, audit
        self._next, self._again, self._refused = 0.0, 0.0, False
        self._trouble = ""

    def follow(self, state: PredictionState, stopping: Callable[[], bool]) -> None:
        """Until `stopping`, which waits a while and says whether to stop.

        Raises WardroundError where site.yaml cannot be read at the start, or has no pictures.
        """
        config = SiteConfig.load(self._site_yaml)
        if config.imaging is None:
            raise WardroundError(
                Code.CONFIGURATION,
                "site.yaml has no section imaging, so that no picture arrives.",
                remedy="Add `imaging:`; without pictures, run `predict --for new --to FILE`.",
            )
        with IndexChanges(config.state) as index:
            while not stopping():
                try:
                    self._step(state, index)
                except WardroundError as error:
                    now = time.monotonic()
                    self._again, self._refused = now + _BREATH, True
                    if now >= self._next:
                        self._next = now + _AFTER_ERROR
                    self._tell(error)

    def _step(self, state: PredictionState, index: IndexChanges) -> None:
        """The next run is due at once where the index has changed, unless the last was refused."""
        now = time.monotonic()
        if now < self._again:
            return
        over = now >= self._next
        if due := over or (not self._refused and index.seen()):
            index.seen()  # what is written from here on is for the run after this one
        if not due and not state.due():
            return
        config = SiteConfig.load(self._site_yaml)
        deliver(state, config)
        if not due:
            return
        bundle = bundle_file(config, self._model)
        done = run(config, self._audit, state, bundle, NEW, None)
        pause = _EVERY if done.reads_records else _ANYWAY
        self._next, self._refused, self._trouble = time.monotonic() + pause, False, ""
        if done.scored:
            event("scored", model=done.model, count=done.scored, left_out=done.left_out)
            deliver(state, config)

    def _tell(self, error: WardroundError) -> None:
        """Once, until another error or a success."""
        if self._trouble != error.message:
            self._trouble = error.message
            why = {"code": error.code.value, "why": error.message, "do": error.remedy}
            event("not scored", logging.WARNING, **why)
