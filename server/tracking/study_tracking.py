"""Keeps a study in one MLflow run, across restarts of the coordinator and outages of MLflow."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from protocol.document import Document
from protocol.errors import WardroundError
from protocol.release import RELEASE
from protocol.study.study import Study
from server.outcome import Outcome, RoundReport
from server.tracking import backlog
from server.tracking.parameters import redacted, without_credentials
from server.tracking.tracker import MlflowTracker, Receipt

_SETTLE = 30.0
"""Seconds that a study's end waits for MLflow; what it has not taken then is kept."""


class TrackingRequest(Document):
    """How a data scientist wants a study tracked. `model` names the registered model."""

    experiment: str = "wardround"
    model: str | None = None


class StudyTracking:
    """What a study tells MLflow; nothing where the coordinator has none."""

    def __init__(
        self,
        uri: str | None,
        wish: TrackingRequest,
        study: Study,
        configuration: Mapping[str, Any],
        kept: Path,
    ) -> None:
        """kept: the folder for what MLflow did not take."""
        self._uri, self._wish, self._kept = uri, wish, kept
        self._study, self._configuration = study, redacted(configuration)
        self._version = RELEASE
        self._tracker: MlflowTracker | None = None

    def begin(self) -> None:
        """Opens the study's run. Raises WardroundError(TRACKING), or CONFIGURATION for an
        unfit address."""
        if self._uri is None:
            return
        tracker = MlflowTracker(
            self._uri, self._wish.experiment, model=self._wish.model, undelivered=self._kept
        )
        tracker.begin(self._study, self._configuration, self._version)
        self._tracker = tracker

    def catch_up(self, reports: Sequence[RoundReport]) -> None:
        """Goes on in the study's run, which gets what it missed. Raises as `begin`."""
        self.begin()
        for report in reports:
            self.round(report)

    def round(self, report: RoundReport) -> None:
        """Returns at once."""
        if self._tracker is not None:
            self._tracker.round(report)

    def finish(self, outcome: Outcome | None) -> Receipt:
        """Hands the end over, and waits some seconds for MLflow to take it.

        Where MLflow was away when the study was resumed, all of it is handed over now, or kept.
        """
        if self._uri is None:
            return Receipt()
        deadline = time.monotonic() + _SETTLE
        while self._tracker is None and outcome is not None:
            try:
                self.catch_up(outcome.rounds)
            except WardroundError as error:
                if time.monotonic() > deadline:
                    return self._keep(outcome, error)
                time.sleep(1.0)
        if self._tracker is None:
            return Receipt()
        if outcome is not None:
            self._tracker.finish(outcome)
        return self._tracker.settle(_SETTLE)

    def _keep(self, outcome: Outcome, error: WardroundError) -> Receipt:
        folder = self._kept / outcome.study.digest[:12]
        backlog.keep(folder, outcome, dict(self._configuration), self._version)
        return Receipt(
            missing=("run",),
            remedy=f"{error.message} It is kept in {folder}. When the server is back: "
            + backlog.deliver_command(
                folder,
                without_credentials(self._uri or ""),
                self._wish.experiment,
                self._wish.model or outcome.study.task.name,
            ),
        )
