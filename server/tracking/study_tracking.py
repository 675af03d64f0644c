"""Keeps a study in one MLflow run, across restarts of the coordinator and outages of MLflow."""

from __future__ import annotations

import operator
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from protocol.document import Document
from protocol.errors import WardroundError
from protocol.identity import Identity
from protocol.release import RELEASE
from protocol.study.study import Study
from server.outcome import Outcome, RoundReport
from server.report.model_card import Background
from server.tracking import backlog
from server.tracking.backlog import Destination, Write
from server.tracking.parameters import redacted
from server.tracking.tracker import MlflowTracker, TrackingReceipt

_SETTLE = 30.0
"""Seconds that a study's end waits for MLflow; the rest is then stored."""


class TrackingRequest(Document):
    """How a data scientist wants a study tracked. `model` names the registered model."""

    experiment: str = "wardround"
    model: str | None = None


class StudyTracking:
    """A study's run in MLflow; does nothing where the coordinator has no MLflow server."""

    def __init__(
        self,
        uri: str | None,
        wish: TrackingRequest,
        study: Study,
        configuration: Mapping[str, Any],
        undelivered: Path,
        signer: Identity | None = None,
        background: Callable[[], Background] = Background,
    ) -> None:
        """undelivered: the folder for studies that MLflow did not take. signer: the coordinator's
        key, which signs the model's record. background: what the model card says besides; asked
        when the run opens, or when the study is stored for later."""
        self._uri, self._wish, self._undelivered = uri, wish, undelivered
        self._study, self._configuration = study, redacted(configuration)
        self._signer, self._background = signer, background
        self._folder = undelivered / study.digest[:12]
        self._tracker: MlflowTracker | None = None

    def begin(self) -> None:
        """Opens the study's run. Raises WardroundError(TRACKING), or CONFIGURATION for an
        unfit address."""
        if self._uri is None:
            return
        tracker = MlflowTracker(
            self._uri,
            self._wish.experiment,
            model=self._wish.model,
            undelivered=self._undelivered,
            signer=self._signer,
            background=self._background(),
        )
        tracker.begin(self._study, self._configuration, RELEASE)
        shutil.rmtree(self._folder, ignore_errors=True)  # an end that was stored before it went on
        self._tracker = tracker

    def catch_up(self, reports: Sequence[RoundReport]) -> None:
        """Continues the study's run, which gets the rounds that it missed. Raises as `begin`."""
        self.begin()
        for report in reports:
            self.round(report)

    def round(self, report: RoundReport) -> None:
        """Returns at once."""
        if self._tracker is not None:
            self._tracker.round(report)

    def lost(self, round_: int, attempt: int, why: str) -> None:
        """Returns at once."""
        if self._tracker is not None:
            self._tracker.lost(round_, attempt, why)

    def finish(self, outcome: Outcome | None, write_out: Write = operator.call) -> TrackingReceipt:
        """Queues the end of the study, and waits some seconds until MLflow has it.

        Where MLflow was away when the study was resumed, all of the study is sent now, or stored,
        by `write_out`. Raises what that raises.
        """
        if self._uri is None:
            return TrackingReceipt()
        deadline = time.monotonic() + _SETTLE
        while self._tracker is None and outcome is not None:
            try:
                self.catch_up(outcome.rounds)
            except WardroundError as error:
                if time.monotonic() > deadline:
                    told = f"{error.message} {self._store(outcome, write_out)}"
                    return TrackingReceipt(missing=("run",), remedy=told)
                time.sleep(1.0)
        if self._tracker is None:  # its run, if it has one from before, must not stay open
            self._store(None, write_out)
            return TrackingReceipt()
        if outcome is not None:
            self._tracker.finish(outcome)
        return self._tracker.settle(_SETTLE, write_out)

    def _store(self, outcome: Outcome | None, write_out: Write) -> str:
        """For the coordinator to send later; what becomes of it."""
        known = self._background()
        later = Destination(
            experiment=self._wish.experiment,
            model=self._wish.model,
            launched_by=known.launched_by,
            submitted=known.submitted,
            earlier=known.earlier,
        )
        stored = (outcome, self._study, dict(self._configuration), RELEASE)
        return backlog.stored(self._folder, *stored, later, write_out)
