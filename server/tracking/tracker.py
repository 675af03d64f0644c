"""The tracker: sends a study's aggregates to MLflow without delaying a round.

The round loop hands over `RoundReport`s and one `Outcome` and never waits: a thread writes, and
catches up after an outage. Nothing is written twice, so a study that is resumed, or delivered
later (backlog.py), continues its run.
"""

from __future__ import annotations

import operator
import shutil
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import build_opener

from protocol.errors import Code, WardroundError
from protocol.identity import Identity
from protocol.release import RELEASE
from protocol.study.study import Study
from server.outcome import Baselines, Outcome, RoundReport
from server.report.model_card import Background
from server.tracking import backlog
from server.tracking.backlog import Destination, Write
from server.tracking.delivery_queue import DeliveryQueue, Job
from server.tracking.mlflow_run import TrackedRun
from server.tracking.parameters import redacted, without_credentials


@dataclass(frozen=True)
class TrackingReceipt:
    """Where a study is in MLflow, which parts are missing there, and what to do about it."""

    url: str = ""
    model: str = ""
    missing: tuple[str, ...] = ()
    remedy: str = ""
    signer: str = ""
    """Fingerprint of the key that signed the model's record; empty where nobody did."""


class Tracker:
    """Takes what a study reports, as a listener of its rounds. This one tracks nothing."""

    def begin(self, study: Study, configuration: Mapping[str, Any], code_version: str) -> None:
        """Opens the study's run. Raises WardroundError(TRACKING) where it cannot."""

    def compared(self, baselines: Baselines) -> None:
        """Adds the figures of the baselines; returns at once."""

    def settle(self, timeout: float = 60.0) -> TrackingReceipt:
        """Waits until all is written, `timeout` seconds at most. Without an outcome, the run is
        closed as killed."""
        return TrackingReceipt()

    def waiting(self, why: str, sites: tuple[str, ...]) -> None:
        """Does nothing: a site's name is not passed on."""

    def lost(self, round_: int, attempt: int, why: str) -> None:
        """Tags the run with the spare attempts that are left; returns at once. `why`, which may
        name a site, is not passed on."""

    def round(self, report: RoundReport) -> None:
        """Adds a round; returns at once."""

    def finish(self, outcome: Outcome) -> None:
        """Adds the outcome and ends the run; returns at once."""


class MlflowTracker(Tracker):
    """One study's run on an MLflow server.

    `model` names the registered model (default: the task). A study that could not be delivered is
    stored in its own folder under `undelivered`, or dropped where that is None. The queue holds at
    most a study's rounds.
    """

    def __init__(
        self,
        uri: str,
        experiment: str,
        *,
        model: str | None = None,
        undelivered: Path | None = None,
        patience: float = 10.0,
        pause: float = 1.0,
        parent: str | None = None,
        signer: Identity | None = None,
        background: Background | None = None,
    ) -> None:
        """parent: the sweep's run; its children register no models by themselves. signer: the
        coordinator's key, which signs the model's record; without, it is unsigned. background: what
        the model card says besides. Seconds: `patience` for which `begin` waits until the run is
        open, `pause` between two tries of a delivery.

        Raises WardroundError(CONFIGURATION) for an address that is no server's.
        """
        self._uri, self._experiment, self._model = server_address(uri), experiment, model
        self._undelivered, self._patience, self._pause = undelivered, patience, pause
        self._parent, self._signer, self._background = parent, signer, background
        self._lock = threading.Lock()
        self._queued: list[tuple[int, RoundReport]] = []
        self._outcome: Outcome | None = None
        self._killed = False
        self._run: TrackedRun | None = None

    def begin(self, study: Study, configuration: Mapping[str, Any], code_version: str) -> None:
        """Opens the study's run, or continues the one it has.

        Raises WardroundError(TRACKING) within seconds where the server is away or refuses.
        """
        require_answer(self._uri)
        self._study = study
        self._configuration, self._code_version = redacted(configuration), code_version
        name = self._model or study.task.name
        run = TrackedRun(
            self._uri,
            self._experiment,
            name,
            study,
            self._parent,
            self._signer,
            self._background,
        )
        run.connect()
        self._courier = DeliveryQueue(f"mlflow-{study.digest[:8]}", self._pause)
        self._courier.put(Job("run", lambda: run.open(code_version)))
        self._run = run  # from here on an interruption leaves a run that must be closed
        if trouble := self._courier.wait_or_trouble(self._patience):
            self._run = None
            self._courier.stop()
            raise WardroundError(
                Code.TRACKING,
                f"MLflow at {without_credentials(self._uri)} did not open a run ({trouble}).",
                remedy="Check that tracking.uri is an MLflow server of version 3, user and "
                "password in it (or in MLFLOW_TRACKING_USERNAME and _PASSWORD), its log, "
                "and that experiment "
                f"{self._experiment!r} is not deleted there.",
            )
        self._courier.put(Job("parameters", run.parameters))
        self._courier.put(Job("study document", lambda: run.documents(self._configuration)))

    def round(self, report: RoundReport) -> None:
        """Queues a round and returns at once."""
        with self._lock:
            idle = not self._queued
            self._queued.append((_now(), report))
        if idle:
            self._courier.put(Job("rounds", self._deliver_rounds))

    def lost(self, round_: int, attempt: int, why: str) -> None:
        """Queues the number of spare attempts that are left."""
        run = self._opened()
        self._courier.put(Job("spare attempts", lambda: run.lost(round_, attempt)))

    def finish(self, outcome: Outcome) -> None:
        """Queues the outcome, its model, and the end of the run; returns at once."""
        run, now = self._opened(), _now()
        self._outcome, self._killed = outcome, outcome.status == "killed"
        if outcome.study.query is not None:
            self._courier.put(Job("answers", lambda: run.answers(outcome)))
        elif outcome.status == "finished" and self._parent is None:
            self._courier.put(Job("model", lambda: run.log_model(outcome)))
            self._courier.put(Job("model version", lambda: run.register(outcome)))
        elif outcome.rounds:
            self._courier.put(Job("unfinished weights", lambda: run.unfinished(outcome)))
        self._courier.put(Job("final metrics", lambda: run.final(outcome, now)))
        self._courier.put(Job("figures", lambda: run.figures(outcome)))
        end = Job("end of the run", lambda: run.end(outcome.status, now))
        self._courier.put(end, first=self._killed)

    def compared(self, baselines: Baselines) -> None:
        """Queues the figures of other trainings, once there is an outcome; returns at once."""
        run, now = self._opened(), _now()
        if (outcome := self._outcome) is not None:
            self._courier.put(Job("baselines", lambda: run.baselines(baselines, outcome, now)))

    def settle(self, timeout: float = 60.0, write_out: Write = operator.call) -> TrackingReceipt:
        """Waits until all is written, `timeout` seconds at most.

        A study of which parts are missing is stored in a folder, by `write_out`; the receipt names
        it and the command that delivers it later. Raises as `backlog.stored`.
        """
        run = self._run
        if run is None:
            return TrackingReceipt()
        if self._outcome is None:
            now, self._killed = _now(), True
            self._courier.put(Job("end of the run", lambda: run.end("killed", now)), first=True)
        self._courier.wait(timeout)
        missing = self._courier.missing
        self._courier.stop()
        remedy = self._store(write_out) if missing else ""
        return TrackingReceipt(run.url, run.model_uri, missing, remedy, run.signer)

    def _store(self, write_out: Write) -> str:
        if self._undelivered is None or (self._outcome is None and self._signer is None):
            return f"See the log of the MLflow server at {without_credentials(self._uri)}."
        folder = self._undelivered / self._study.digest[:12]
        known = self._background or Background()
        later: Destination | str = Destination(
            experiment=self._experiment,
            model=self._model,
            launched_by=known.launched_by,
            submitted=known.submitted,
            earlier=known.earlier,
        )
        if self._signer is None:
            address = without_credentials(self._uri)
            later = backlog.deliver_command(folder, address, self._experiment, self._model)
        stored = (self._outcome, self._study, self._configuration, self._code_version)
        return backlog.stored(folder, *stored, later, write_out)

    def _opened(self) -> TrackedRun:
        if self._run is None:
            raise WardroundError(Code.INTERNAL, "The tracker has not begun a study.")
        return self._run

    def _deliver_rounds(self) -> None:
        run = self._opened()
        while True:
            with self._lock:
                batch = self._queued[:25]
            if not batch:
                return
            run.rounds(batch)
            with self._lock:
                del self._queued[: len(batch)]
                more = bool(self._queued)
            if more and self._killed:  # the end of the run goes before the rest
                self._courier.put(Job("rounds", self._deliver_rounds))
                return


def deliver(
    folder: Path,
    uri: str,
    experiment: str,
    model: str | None = None,
    timeout: float = 120.0,
    signer: Identity | None = None,
    background: Background | None = None,
) -> TrackingReceipt:
    """Sends a stored study to MLflow, to its run there or to a new one. signer: the key of the
    coordinator that ran it. background: what its model card says besides.

    Raises WardroundError: STATE for the folder, TRACKING for the server.
    """
    outcome, configuration, code_version = backlog.read(folder)
    tracker = MlflowTracker(
        uri,
        experiment,
        model=model,
        undelivered=folder.parent,
        signer=signer,
        background=background,
    )
    tracker.begin(outcome.study, configuration, code_version)
    for report in outcome.rounds:
        tracker.round(report)
    tracker.finish(outcome)
    return tracker.settle(timeout)


def deliver_stored(folder: Path, uri: str, signer: Identity) -> bool:
    """Sends MLflow what a coordinator stored in `folder`, which goes once all of it is there.

    Returns False where this is not for a coordinator to send. Raises WardroundError: TRACKING where
    MLflow is away or did not take all, STATE or REFUSED_STUDY for a damaged folder.
    """
    if (where := backlog.destination(folder)) is None:
        return False
    if (study := backlog.ended_without_outcome(folder)) is None:
        background = Background(where.launched_by, submitted=where.submitted, earlier=where.earlier)
        receipt = deliver(
            folder, uri, where.experiment, where.model, signer=signer, background=background
        )
    else:
        tracker = MlflowTracker(
            uri, where.experiment, model=where.model, undelivered=folder.parent, signer=signer
        )
        tracker.begin(study, {}, RELEASE)
        receipt = tracker.settle()
    if receipt.missing:
        raise WardroundError(
            Code.TRACKING,
            f"MLflow did not take {', '.join(receipt.missing)}.",
            remedy="See the log of the MLflow server.",
        )
    shutil.rmtree(folder)
    return True


def server_address(uri: str) -> str:
    """Without a slash at its end. Raises WardroundError(CONFIGURATION) where it is no server's."""
    if not uri.startswith(("http://", "https://")):
        raise WardroundError(
            Code.CONFIGURATION,
            f"tracking.uri is {without_credentials(uri)!r}, not the address of a server.",
            remedy="Give an http:// or https:// address of an MLflow server.",
        )
    return uri.rstrip("/")


def require_answer(uri: str, timeout: float = 15.0) -> None:
    """Raises WardroundError(TRACKING) where no HTTP server answers at `uri` within `timeout` s."""
    try:
        build_opener().open(f"{without_credentials(uri)}/health", timeout=timeout).close()
    except HTTPError:
        return
    except OSError as error:  # URLError is one
        reason = str(getattr(error, "reason", error))
        if "CERTIFICATE" in reason:  # a server answers; MLflow's client has settings of its own
            return
        raise WardroundError(
            Code.TRACKING,
            f"No MLflow server answers at {without_credentials(uri)} ({reason}).",
            remedy="Start it (`mlflow server --backend-store-uri sqlite:///mlflow.db`), correct "
            "tracking.uri, or run untracked with tracking=off.",
        ) from None


def _now() -> int:
    """Milliseconds since 1970, MLflow's unit of time."""
    return time.time_ns() // 1_000_000
