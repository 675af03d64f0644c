"""Scores pictures as they become ready, and sends the reports, until it is told to stop."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from client.config.site_config import SiteConfig
from client.governance.audit import Audit
from client.log_events import event
from client.prediction.delivery import deliver
from client.prediction.fetched_models import bundle_file
from client.prediction.scoring_run import run
from client.prediction.selection import NEW
from client.prediction.state import PredictionState
from protocol.errors import Code, WardroundError

_EVERY, _AFTER_ERROR = 3.0, 60.0
"""Seconds from the end of a run to the next one."""


class PredictionService:
    """One model at one site. site.yaml is read each time, so that a model which is withdrawn scores
    nobody from then on, and NAME@approved is the version that was approved last."""

    def __init__(self, site_yaml: Path, model: str, audit: Audit) -> None:
        """model: as `fetched_models.bundle_file` has it."""
        self._site_yaml, self._model, self._audit = site_yaml, model, audit
        self._next = 0.0
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
        while not stopping():
            try:
                self._step(state)
            except WardroundError as error:
                self._next = time.monotonic() + _AFTER_ERROR
                self._tell(error)

    def _step(self, state: PredictionState) -> None:
        config = SiteConfig.load(self._site_yaml)
        deliver(state, config)
        if time.monotonic() < self._next:
            return
        bundle = bundle_file(config, self._model)
        done = run(config, self._audit, state, bundle, NEW, None)
        self._next, self._trouble = time.monotonic() + _EVERY, ""
        if done.scored:
            event("scored", model=done.model, count=done.scored, left_out=done.left_out)
            deliver(state, config)

    def _tell(self, error: WardroundError) -> None:
        """Once, until another error or a success."""
        if self._trouble != error.message:
            self._trouble = error.message
            why = {"code": error.code.value, "why": error.message, "do": error.remedy}
            event("not scored", logging.WARNING, **why)
