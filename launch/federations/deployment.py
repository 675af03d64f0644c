"""The data scientist's end of a coordinator's control API.

    federation = RemoteFederation(Path("credentials.json"))
    outcome = federation.run(study, configuration, {"experiment": "stroke"}, listener)

Events come back as the types of `server.outcome`, so the same progress display serves a federation
in this process and a deployment. A connection that breaks is taken up again where it broke; the
study itself lives at the coordinator, whatever becomes of this process.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from launch.federations.control_client import ControlClient, no_coordinator
from protocol.errors import Code, WardroundError
from protocol.study.states import StudyState
from protocol.study.study import Study
from server.coordinator.study_events import (
    ENDS,
    Event,
    deliver,
    error_from_json,
    outcome_from_json,
    receipt_from_json,
)
from server.outcome import Outcome, RoundReport
from server.rounds.listener import Listener
from server.tracking.tracker import TrackingReceipt


class RemoteFederation:
    """A coordinator, seen with one account's eyes. A context manager; `close` hangs up."""

    def __init__(
        self,
        credentials: Path,
        *,
        address: str | None = None,
        timeout: float = 60.0,
        patience: float = 300.0,
    ) -> None:
        """address: host:port instead of the one in the credentials. timeout: seconds for a call.
        patience: seconds for which a coordinator that has gone (a restart) is waited for.

        Raises WardroundError: CREDENTIALS (the file), TLS (its certificate).
        """
        self._control = ControlClient(credentials, address, timeout)
        self._patience = patience
        self.receipt = TrackingReceipt()
        """Where the study that was followed last is found in MLflow."""

    def close(self) -> None:
        self._control.close()

    def __enter__(self) -> RemoteFederation:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- calls ---
    def federation(self) -> dict[str, Any]:
        """Sites (`patients` declared, `online`), installed tasks, the coordinator's version.

        This and every other call raises what `ControlClient.call` raises.
        """
        return self._control.call("GET", "federation")

    def patients(self) -> dict[str, int]:
        """Declared patients of every enrolled site: what a study is built for."""
        sites = self.federation()["sites"]
        return {name: int(site["patients"]) for name, site in sites.items()}

    def pinned(self, study: Study) -> Study:
        """The study with the version of the coordinator's roster, where it has to name one."""
        version = self.federation().get("roster")
        if version is None:
            return study
        return Study.model_validate(study.model_dump() | {"roster_version": version})

    def studies(self) -> list[dict[str, Any]]:
        """Every study at the coordinator, the latest first."""
        return list(self._control.call("GET", "studies")["studies"])

    def study(self, digest: str) -> dict[str, Any]:
        """One study, with its document and configuration."""
        return self._control.call("GET", f"studies/{digest}")

    def consult(self, study: Study) -> dict[str, Any]:
        """How the sites would answer the study, which is not proposed: `answers` (how many accept,
        wait for a person, refuse, are away), `rules` and `codes` (why, with how many sites)."""
        return self._control.call("POST", "plans", {"document": json.loads(study.document)})

    def submit(
        self,
        study: Study,
        configuration: Mapping[str, Any],
        tracking: Mapping[str, Any] | None = None,
    ) -> str:
        """Starts a study, or resumes one that rests; returns its digest.

        tracking: `experiment` and, where it is not the task's name, `model`. The same study may be
        submitted again, so a call that broke can be repeated. Raises also REFUSED_STUDY, TRACKING
        (MLflow is down: nothing was started), USAGE (too many studies at once).
        """
        body = {
            "document": json.loads(study.document),
            "configuration": dict(configuration),
            "tracking": dict(tracking or {}),
        }
        digest = self._control.call("POST", "studies", body).get("study")
        if digest != study.digest:
            raise no_coordinator(self._control.coordinator)
        return study.digest

    def cancel(self, digest: str, *, wait: float = 0.0) -> None:
        """Ends one's own study for good. Returns once it is done, `wait` seconds later at most;
        its events tell when it is."""
        self._control.call("DELETE", f"studies/{digest}")
        self.settle(digest, lambda state: state.over, wait)

    def settle(
        self, digest: str, there: Callable[[StudyState], bool], wait: float = 10.0
    ) -> StudyState:
        """A study's state, once it is `there`, or `wait` seconds later."""
        deadline = time.monotonic() + wait
        while not there(state := self._state(digest)) and time.monotonic() < deadline:
            time.sleep(0.1)
        return state

    def pause(self, digest: str) -> StudyState:
        """Stops one's own study where it is, until it is resumed; its state, which becomes
        `paused` within seconds. Its attempt in hand is lost. Raises also USAGE."""
        return self._read_state(self._control.call("POST", f"studies/{digest}/pause"))

    def resume(self, digest: str) -> StudyState:
        """Goes on with one's own study that is paused, has failed or has expired; its state. Does
        nothing where it is at work. Raises also USAGE."""
        return self._read_state(self._control.call("POST", f"studies/{digest}/resume"))

    def _state(self, digest: str) -> StudyState:
        return self._read_state(self.study(digest))

    def _read_state(self, answer: Mapping[str, Any]) -> StudyState:
        try:
            return StudyState(str(answer.get("state")))
        except ValueError:
            raise no_coordinator(self._control.coordinator) from None

    def weights(self, digest: str) -> npt.NDArray[np.float32]:
        """(P,) float32, the model that a study released, unfinished where it ended early. Raises
        also USAGE where it released none."""
        content = self._control.content(f"studies/{digest}/weights")
        if len(content) % 4:
            raise no_coordinator(self._control.coordinator)
        return np.frombuffer(content, dtype="<f4").astype(np.float32)

    def _released(self, study: Study, *, finished: bool) -> npt.NDArray[np.float32]:
        """The model that a study which has ended released; (0,) where it learned nothing, or the
        coordinator is of a release that gives out the models of finished studies alone."""
        try:
            weights = self.weights(study.digest)
        except WardroundError:
            if finished:
                raise
            return np.zeros(0, np.float32)
        if weights.shape != (study.model.parameters,):
            raise no_coordinator(self._control.coordinator)
        return weights

    def events(self, digest: str, after: int = 0) -> Iterator[Event]:
        """Events above number `after`, as they happen, up to the one that ends the study."""
        away_since: float | None = None
        last = ""
        while True:
            try:
                for event in self._control.stream(digest, after):
                    away_since = None
                    after, last = int(event["n"]), event["type"]
                    yield event
                if last in ENDS or (not last and self._state(digest).over):
                    return
            except WardroundError as error:
                away_since = away_since or time.monotonic()
                gone = time.monotonic() - away_since > self._patience
                if error.code is not Code.UNREACHABLE or gone:
                    raise
            time.sleep(0.5)

    # --- a study from here to its end ---
    def run(
        self,
        study: Study,
        configuration: Mapping[str, Any],
        tracking: Mapping[str, Any] | None,
        listener: Listener,
    ) -> Outcome:
        """Submits a study and follows it; raises what `RoundLoop.run` raises.

        Interrupted, it leaves the study running: `cancel` ends it, `follow` comes back to it.
        """
        return self.follow(self.submit(study, configuration, tracking), study, listener)

    def follow(self, digest: str, study: Study, listener: Listener) -> Outcome:
        """Tells `listener` all that happened and happens in a study, until it ends.

        Raises the WardroundError that the study failed with, after the listener got the outcome
        as far as it came, and KeyboardInterrupt where it was cancelled.
        """
        rounds: list[RoundReport] = []
        event: Event = {}
        for event in self.events(digest):
            report = deliver(event, listener)
            if report is not None:
                rounds.append(report)
        if event.get("type") not in ENDS:
            raise no_coordinator(self._control.coordinator)
        weights = self._released(study, finished=event["type"] == "finished")
        outcome = None
        if event.get("outcome") is not None:
            outcome = outcome_from_json(event["outcome"], study, tuple(rounds), weights)
            listener.finish(outcome)
        if event["type"] == "cancelled":
            raise KeyboardInterrupt
        if outcome is None or event["type"] != "finished":
            raise error_from_json(event)
        self.receipt = receipt_from_json(event.get("tracking"))
        return outcome
