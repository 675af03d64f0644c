"""The tracker: hands a study's aggregates to MLflow without ever holding a round up.

Whoever runs rounds hands in `RoundReport`s and one `Outcome` and never waits: a thread writes,
and catches up when the server was away. What it wrote already is not written twice, so a study
that is resumed, or delivered later (backlog.py), goes on in the same run.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.error import HTTPError, URLError
from urllib.request import build_opener

from protocol.errors import Code, WardroundError
from protocol.study.study import Study
from server.outcome import Baselines, Outcome, RoundReport
from server.tracking import backlog
from server.tracking.delivery_queue import DeliveryQueue, Job
from server.tracking.mlflow_run import TrackedRun
from server.tracking.parameters import redacted, without_credentials


@dataclass(frozen=True)
class Receipt:
    """Where a study is found in MLflow, and what of it is not there (with what to do next)."""

    url: str = ""
    model: str = ""
    missing: tuple[str, ...] = ()
    remedy: str = ""


class Tracker(Protocol):
    """What the round loop's owner calls, in this order."""

    def begin(self, study: Study, configuration: Mapping[str, Any], code_version: str) -> None:
        """Opens the study's run. Raises WardroundError(TRACKING) where it cannot."""
        ...

    def round(self, report: RoundReport) -> None:
        """Returns at once."""
        ...

    def finish(self, outcome: Outcome) -> None:
        """Returns at once."""
        ...

    def compared(self, baselines: Baselines) -> None:
        """Adds what the study was compared with; returns at once."""
        ...

    def settle(self, timeout: float = 60.0) -> Receipt:
        """Waits until all is written, `timeout` seconds at most. Without an outcome handed in,
        the run is closed as killed."""
        ...


class Untracked:
    """The tracker of a study that is not tracked."""

    def begin(self, study: Study, configuration: Mapping[str, Any], code_version: str) -> None:
        pass

    def round(self, report: RoundReport) -> None:
        pass

    def finish(self, outcome: Outcome) -> None:
        pass

    def compared(self, baselines: Baselines) -> None:
        pass

    def settle(self, timeout: float = 60.0) -> Receipt:
        return Receipt()


class MlflowTracker:
    """One study's run on an MLflow server.

    `model` names the registered model (default: the task). What could not be delivered is kept
    under `undelivered`, one folder per study; nowhere where that is None. The queue holds the
    reports that the round loop keeps for its outcome anyway, a study's rounds at most.
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
    ) -> None:
        """parent: the run of a sweep, of which this one is a part; parts register no models.
        Seconds: `patience` that `begin` waits for the run to be opened, `pause` between two tries
        of what the server did not take.

        Raises WardroundError(CONFIGURATION) for an address that is no server's.
        """
        if not uri.startswith(("http://", "https://")):
            raise WardroundError(
                Code.CONFIGURATION,
                f"tracking.uri is {without_credentials(uri)!r}, not the address of a server.",
                remedy="Give an http:// or https:// address of an MLflow server.",
            )
        self._uri, self._experiment, self._model = uri.rstrip("/"), experiment, model
        self._undelivered, self._patience, self._pause = undelivered, patience, pause
        self._parent = parent
        self._lock = threading.Lock()
        self._queued: list[tuple[int, RoundReport]] = []
        self._outcome: Outcome | None = None
        self._killed = False
        self._run: TrackedRun | None = None

    def begin(self, study: Study, configuration: Mapping[str, Any], code_version: str) -> None:
        """Opens the study's run, or goes on in the one it has.

        Raises WardroundError(TRACKING) within seconds where the server is away or refuses.
        """
        require_answer(self._uri)
        self._configuration, self._code_version = redacted(configuration), code_version
        name = self._model or study.task.name
        run = TrackedRun(self._uri, self._experiment, name, study, self._parent)
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
                remedy="Check that tracking.uri is an MLflow server of version 3, its log, "
                "and that experiment "
                f"{self._experiment!r} is not deleted there.",
            )
        self._courier.put(Job("parameters", lambda: run.parameters(self._configuration)))
        self._courier.put(Job("study document", lambda: run.documents(self._configuration)))

    def round(self, report: RoundReport) -> None:
        """Queues a round and returns at once."""
        with self._lock:
            idle = not self._queued
            self._queued.append((_now(), report))
        if idle:
            self._courier.put(Job("rounds", self._deliver_rounds))

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
        """Queues the figures of other trainings; returns at once."""
        run, now = self._opened(), _now()
        self._courier.put(Job("baselines", lambda: run.baselines(baselines, now)))

    def settle(self, timeout: float = 60.0) -> Receipt:
        """Waits until all is written, `timeout` seconds at most.

        What is missing then is kept in a folder that the receipt names with the command which
        delivers it later.
        """
        run = self._run
        if run is None:
            return Receipt()
        if self._outcome is None:
            now, self._killed = _now(), True
            self._courier.put(Job("end of the run", lambda: run.end("killed", now)), first=True)
        self._courier.wait(timeout)
        missing = self._courier.missing
        self._courier.stop()
        remedy = self._keep() if missing else ""
        return Receipt(run.url, run.model_uri, missing, remedy)

    def _keep(self) -> str:
        if self._outcome is None or self._undelivered is None:
            return f"See the log of the MLflow server at {without_credentials(self._uri)}."
        folder = self._undelivered / self._outcome.study.digest[:12]
        backlog.keep(folder, self._outcome, self._configuration, self._code_version)
        address = without_credentials(self._uri)
        command = backlog.deliver_command(folder, address, self._experiment, self._model)
        return f"It is kept in {folder}. When the server is back: {command}"

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
    folder: Path, uri: str, experiment: str, model: str | None = None, timeout: float = 120.0
) -> Receipt:
    """Brings a kept study to MLflow, into the run that it has there if any.

    Raises WardroundError: STATE for the folder, TRACKING for the server.
    """
    outcome, configuration, code_version = backlog.read(folder)
    tracker = MlflowTracker(uri, experiment, model=model, undelivered=folder.parent)
    tracker.begin(outcome.study, configuration, code_version)
    for report in outcome.rounds:
        tracker.round(report)
    tracker.finish(outcome)
    return tracker.settle(timeout)


class TrackingListener:
    """A tracker as a listener of the round loop: what names a site is not passed on."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker

    def waiting(self, why: Literal["offline", "approval", "hours"], sites: tuple[str, ...]) -> None:
        pass

    def lost(self, round_: int, attempt: int, why: str) -> None:
        pass

    def round(self, report: RoundReport) -> None:
        self._tracker.round(report)

    def finish(self, outcome: Outcome) -> None:
        self._tracker.finish(outcome)


def require_answer(uri: str, timeout: float = 3.0) -> None:
    """Raises WardroundError(TRACKING) where no HTTP server answers at `uri` within `timeout` s."""
    reason = ""
    try:
        build_opener().open(f"{uri}/health", timeout=timeout).close()
    except HTTPError:
        return
    except URLError as error:
        reason = str(error.reason)
    except OSError as error:
        reason = str(error)
    if reason and "CERTIFICATE" not in reason:
        raise WardroundError(
            Code.TRACKING,
            f"No MLflow server answers at {without_credentials(uri)} ({reason}).",
            remedy="Start it (`mlflow server --backend-store-uri sqlite:///mlflow.db`), correct "
            "tracking.uri, or run untracked with tracking=off.",
        )


def _now() -> int:
    """Milliseconds since 1970, MLflow's unit of time."""
    return time.time_ns() // 1_000_000
