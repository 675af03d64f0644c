"""One study at the coordinator: its folder, its thread, and how it resumes after a restart.

The folder holds study.json (the canonical document), submission.json, configuration.json, start.f32
(the weights of the released model that it starts from, if it does), accepted.json (who has accepted
it), checkpoint.pt after every round, attempts.json before every attempt, events.jsonl, at the end
weights.f32 and summary.json, and untold.json until every site knows of the end. An empty file
`paused` or `cancelled` says what the owner has asked for.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from protocol import durable_files
from protocol.document import Document
from protocol.errors import Code, WardroundError, raised_at
from protocol.housekeeping import reason
from protocol.identity import Identity
from protocol.study.states import StudyState
from protocol.study.study import Name, Study
from protocol.vectors import Vector
from server.coordinator.journal import Journal
from server.coordinator.storage import Storage
from server.coordinator.study_events import (
    error_to_json,
    outcome_from_json,
    outcome_to_json,
    report_from_json,
    report_to_json,
)
from server.coordinator.study_log import StudyLog
from server.coordinator.study_transport import (
    StudyFleet,
    StudyPausedError,
    StudySuspendedError,
)
from server.enrolment.json_store import write_json
from server.enrolment.roster import Roster
from server.outcome import Outcome, RoundReport
from server.report.earlier_studies import earlier_in_words
from server.report.model_card import Background
from server.rounds.farewell import Farewell
from server.rounds.listener import Reason
from server.rounds.proposal import Patience
from server.tracking.study_tracking import StudyTracking, TrackingRequest
from server.tracking.summary import write_summary
from server.transport.superlink import SuperLink
from tasks import registry

if TYPE_CHECKING:
    from server.rounds.round_loop import RoundLoop

_EVENTS, _ACCEPTED, _START = "events.jsonl", "accepted.json", "start.f32"
ATTEMPTS = "attempts.json"
_LAST_WORD = 15.0
"""Seconds: longer than sites are asked to note that a study has ended."""


class Submission(Document):
    """Who sent a study, when, and how it is tracked."""

    account: Name
    submitted: str
    tracking: TrackingRequest
    uri: str | None


@dataclass(frozen=True)
class CoordinatorServices:
    """What every study of a coordinator uses."""

    link: SuperLink
    roster: Roster
    journal: Journal
    patience: Patience
    undelivered: Path
    signer: Identity

    def tracking(
        self, folder: Path, study: Study, submission: Submission, configuration: Mapping[str, Any]
    ) -> StudyTracking:
        """folder: the study's own, beside those of the coordinator's other studies."""
        return StudyTracking(
            submission.uri,
            submission.tracking,
            study,
            configuration,
            self.undelivered,
            self.signer,
            lambda: Background(
                submission.account,
                submitted=submission.submitted[:10],
                earlier=earlier_in_words(study, earlier_studies(folder, submission)),
            ),
        )


def earlier_studies(folder: Path, submission: Submission) -> list[Study]:
    """The studies in the folders beside this one that were submitted before; a damaged folder, of
    which its own error tells, is left out."""
    earlier = []
    for other in sorted(folder.parent.glob("*/study.json")):
        with contextlib.suppress(OSError, ValueError, WardroundError):
            text = (other.parent / "submission.json").read_bytes()
            if Submission.model_validate_json(text).submitted < submission.submitted:
                earlier.append(Study.parse(other.read_bytes()))
    return earlier


class StudyRun:
    """A study's folder and, while it runs, its thread. Also the round loop's listener."""

    def __init__(
        self,
        folder: Path,
        services: CoordinatorServices,
        study: Study,
        submission: Submission,
        tracking: StudyTracking,
        *,
        resumed: bool,
    ) -> None:
        """Called by `create` and `load`. resumed: MLflow gets earlier rounds again when it runs.

        Raises OSError, ValueError for damaged events.
        """
        self.folder, self._services = folder, services
        self.study, self.submission = study, submission
        self.log = StudyLog(folder / _EVENTS)
        self._reports = [report_from_json(event) for event in self.log.events("round")]
        self._tracking, self._resumed = tracking, resumed
        self._storage = Storage(self._check, self._paused)
        self._waiting: dict[str, tuple[str, ...]] = {}
        self._outcome: Outcome | None = None
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._cancelled, self._pause = folder / "cancelled", folder / "paused"
        self._begun = folder / ATTEMPTS
        self._sites = StudyFleet(
            services.link, self.study.digest[:12], self._cancelled.exists, self._pause.exists
        )
        self._farewell = Farewell(folder / "untold.json", study)
        self._announcing, self._announced = threading.Lock(), 0.0

    @staticmethod
    def load(folder: Path, services: CoordinatorServices) -> StudyRun:
        """A study as its folder has it.

        Raises WardroundError(STATE or REFUSED_STUDY) where that is damaged.
        """
        try:
            study = Study.parse((folder / "study.json").read_bytes())
            submission = Submission.model_validate_json((folder / "submission.json").read_bytes())
            configuration = json.loads((folder / "configuration.json").read_bytes())
            tracking = services.tracking(folder, study, submission, configuration)
            return StudyRun(folder, services, study, submission, tracking, resumed=True)
        except (OSError, ValueError):
            raise WardroundError(
                Code.STATE,
                f"The study's folder {folder} cannot be read.",
                remedy="Restore it from a backup, or move it away.",
            ) from None

    @staticmethod
    def create(
        folder: Path,
        services: CoordinatorServices,
        study: Study,
        submission: Submission,
        configuration: Mapping[str, Any],
        start: Vector | None = None,
    ) -> StudyRun:
        """A new study: opens its tracking and makes its folder, whole or not at all. start: (P,)
        float32 that it starts from, kept here, since their own study may be pruned meanwhile.

        Raises WardroundError(TRACKING), OSError.
        """
        tracking = services.tracking(folder, study, submission, configuration)
        tracking.begin()
        new = folder.with_name(f".new-{folder.name}")
        shutil.rmtree(new, ignore_errors=True)  # of a coordinator that was killed
        try:
            durable_files.make_folder(new)
            durable_files.write(new / "study.json", study.document)
            if start is not None:
                weights = np.ascontiguousarray(start, dtype="<f4")
                durable_files.write(new / _START, weights.data)
            write_json(new / "submission.json", submission.model_dump())
            write_json(new / "configuration.json", configuration)
            StudyLog(new / _EVENTS).append("submitted", account=submission.account)
            durable_files.move(new, folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)
        return StudyRun(folder, services, study, submission, tracking, resumed=False)

    @property
    def digest(self) -> str:
        return self.study.digest

    @property
    def state(self) -> StudyState:
        match self.log.last_type:
            case "finished" | "cancelled" as word:
                return StudyState(word)
            case "failed" | "paused" as word:
                return StudyState.EXPIRED if self._expired else StudyState(word)
        if self._waiting:
            return StudyState.WAITING
        return StudyState.RUNNING if self._begun.exists() else StudyState.PROPOSED

    @property
    def _expired(self) -> bool:
        return "" < self.study.expires < datetime.now(UTC).date().isoformat()

    @property
    def weights(self) -> Path:
        """(P,) float32 little-endian, once the study has ended."""
        return self.folder / "weights.f32"

    @property
    def has_released(self) -> bool:
        """Whether there is a model: of the whole study, or unfinished where it ended early."""
        early = not self.state.works and bool(self._reports) and self.weights.is_file()
        return self.state is StudyState.FINISHED or early

    def released(self) -> Outcome | None:
        """What came of it, without the weights; None unless it has finished."""
        if self.state is not StudyState.FINISHED:
            return None
        told = self.log.events(StudyState.FINISHED.value)[-1]["outcome"]
        nothing = np.zeros(0, dtype=np.float32)
        return outcome_from_json(told, self.study, tuple(self._reports), nothing)

    def row(self) -> dict[str, Any]:
        """The study in a list of studies."""
        return {
            "study": self.digest,
            "title": self.study.title,
            "task": self.study.task.name,
            "mode": self.study.privacy.mode,
            "account": self.submission.account,
            "submitted": self.submission.submitted,
            "state": self.state.value,
            "expires": self.study.expires,
            "round": self._reports[-1].round if self._reports else 0,
            "rounds": self.study.optimisation.rounds,
            "events": len(self.log),
            "waiting": {why: list(sites) for why, sites in self._waiting.items()},
            "paused": self.paused,
        }

    @property
    def paused(self) -> str:
        """Why the study waits for the coordinator's disk; "" when it does not."""
        return self._storage.paused

    # --- its life ---
    @property
    def due(self) -> bool:
        """Whether there is something to do and nobody does it."""
        state = self.state
        if state.rests:
            return self._cancelled.exists()
        return not state.over and self._thread is None

    def start(self) -> None:
        """Runs the rounds, in a thread, where none runs them yet. Raises RuntimeError where the
        system has no thread left."""
        with self._starting:
            if self._thread is None or not self._thread.is_alive():
                name = f"study-{self.digest[:8]}"
                thread = threading.Thread(target=self._work, name=name, daemon=True)
                thread.start()
                self._thread = thread

    def cancel(self) -> None:
        """Ends the study for good, also over a restart; within seconds unless a site hangs. One
        that waits for the disk ends when that takes its writes again. Raises OSError."""
        durable_files.write(self._cancelled, b"")
        self._sites.hang_up()

    def pause(self) -> None:
        """Stops the study where it is until it is resumed, also over a restart; within seconds, as
        `cancel`. The attempt in hand is lost. Raises OSError."""
        durable_files.write(self._pause, b"")
        self._sites.hang_up()

    def resume(self) -> StudyRun:
        """Goes on with a study that rests, as another object on the same folder: `start` it.

        Raises WardroundError: USAGE while its sites are being told that it rests, and as `load`.
        Raises OSError.
        """
        if not self._announcing.acquire(timeout=_LAST_WORD):
            raise WardroundError(
                Code.USAGE,
                "The study's sites are being told that it rests.",
                remedy="Try again in a minute.",
            )
        run = StudyRun.load(self.folder, self._services)
        run._farewell.withdraw()
        run._pause.unlink(missing_ok=True)
        run.log.append("submitted", account=self.submission.account)
        self.log.close()  # who follows it here follows the other one
        return run

    def tell_sites(self) -> None:
        """Tells the sites that are there and do not know it yet that the study has ended, or rests;
        in a thread, every few seconds at most."""
        waited = time.monotonic() - self._announced > _LAST_WORD
        if waited and self._services.link.online() & self._farewell.untold:
            threading.Thread(
                target=self._announce, name=f"end-{self.digest[:8]}", daemon=True
            ).start()

    def suspend(self) -> None:
        """Stops working on the study; a restarted coordinator resumes it."""
        self._sites.suspend()
        self.log.close()

    def join(self, timeout: float) -> None:
        if self._thread is not None:
            self._thread.join(timeout)

    # --- the round loop's listener ---
    def waiting(self, why: Reason, sites: tuple[str, ...]) -> None:
        if self._sites.suspended or self._waiting.get(why, ()) == sites:
            return
        self._waiting = self._waiting | {why: sites} if sites else {}
        # Release 0.1.0 shows a reason that it does not know to nobody, as another type of event.
        type_ = "searching" if why in ("trouble", "suspects", "unconfirmed") else "waiting"
        self._append(type_, why=why, sites=list(sites))
        if sites:
            self._log("study-waits", why=why, sites=",".join(sites))

    def lost(self, round_: int, attempt: int, why: str) -> None:
        if not self._sites.suspended:
            self._append("lost", round=round_, attempt=attempt, why=why)
            self._tracking.lost(round_, attempt, why)
            self._log("attempt-lost", round=round_, attempt=attempt, why=why)

    def round(self, report: RoundReport) -> None:
        if any(known.round == report.round for known in self._reports):
            return  # reported before a restart
        self._append("round", **report_to_json(report))
        self._reports.append(report)
        self._tracking.round(report)
        first = self.study.outcome.compared[0]
        figure = report.metrics.get(first)
        self._log(
            "round",
            round=report.round,
            of=self.study.optimisation.rounds,
            seconds=round(report.seconds, 3),
            **{first: None if figure is None else round(figure.value, 4)},
        )

    def finish(self, outcome: Outcome) -> None:
        self._outcome = replace(outcome, rounds=tuple(self._reports))

    # --- the thread ---
    def _work(self) -> None:
        try:
            self._end(*self._run())
        except StudySuspendedError:
            self._log("study-suspended")
            return
        finally:
            self._sites.hang_up()
        self._announce()

    def _announce(self) -> None:
        if not self._announcing.acquire(blocking=False):
            return
        try:
            sites = StudyFleet(self._services.link, f"end-{self.digest[:8]}")
            match self.log.last_type:
                case "finished" | "failed" | "cancelled" | "paused" as ending:
                    try:
                        self._storage.write(lambda: self._farewell.send(sites, ending))
                    except StudySuspendedError:
                        pass
                    finally:
                        sites.hang_up()
            self._announced = time.monotonic()
        finally:
            self._announcing.release()

    def _run(self) -> tuple[StudyState, WardroundError | None]:
        """What becomes of the study, and why. Raises StudySuspendedError."""
        try:
            if self._sites.stopped():
                return StudyState.CANCELLED, None
            self._rounds().run()
        except StudySuspendedError:
            raise
        except StudyPausedError:
            return StudyState.PAUSED, None
        except KeyboardInterrupt:
            return StudyState.CANCELLED, None
        except Exception as error:
            return StudyState.FAILED, unexpected(error)
        return StudyState.FINISHED, None

    def _rounds(self) -> RoundLoop:
        from server.rounds.round_loop import RoundLoop  # PyTorch: not to wait for a study

        roster = self._services.roster
        identities = roster.keys(self.study)
        self._log("study-starts", title=self.study.title, account=self.submission.account)
        self._append("resumed" if self._resumed else "started")
        if self._resumed:
            try:
                self._tracking.catch_up(self._reports)
            except WardroundError as error:  # no reason to hold the study up
                self._log("tracking-away", code=error.code)
        return RoundLoop(
            self.study,
            registry.load(self.study.task.name, self.study.task.options),
            self._sites,
            identities,
            self,
            checkpoint=self.folder / "checkpoint.pt",
            begun=self.folder / ATTEMPTS,
            store=self._storage.write,
            patience=self._services.patience,
            cancelled=self._sites.stopped,
            revoked=lambda: roster.revoked(self.study),
            accepted=self._accepted(),
            remember=self._remember,
            start=self._start_weights(),
        )

    def _start_weights(self) -> Vector | None:
        if self.study.start is None:
            return None
        return np.fromfile(self.folder / _START, dtype="<f4").astype(np.float32)

    def _accepted(self) -> list[str]:
        """The sites that have accepted the study, as far as that was noted."""
        try:
            return [str(site) for site in json.loads((self.folder / _ACCEPTED).read_bytes())]
        except (OSError, ValueError, TypeError):
            return []  # without it the study waits for all of them again, as at its start

    def _remember(self, accepted: Collection[str]) -> None:
        path = self.folder / _ACCEPTED
        self._storage.write(lambda: write_json(path, sorted(accepted)))

    def _end(self, state: StudyState, error: WardroundError | None) -> None:
        """Files first, then tracking, then the event that says so, and then the sites are told: a
        study that they have closed is never begun again. Raises StudySuspendedError."""
        content: dict[str, Any] = {}
        if state is not StudyState.PAUSED:
            state, error = self._settle(state, error, content)
        if error is not None:
            content |= error_to_json(error)
        self._waiting = {}
        self._storage.write(self._farewell.prepare)
        self._append(self.state.become(state).value, **content)
        keys = {} if error is None else {"code": error.code.value, "why": error.message}
        self._log(f"study-{state}", **keys)

    def _settle(
        self, state: StudyState, error: WardroundError | None, content: dict[str, Any]
    ) -> tuple[StudyState, WardroundError | None]:
        """Stores the outcome, and sends it to MLflow; a failure to do so is the study's."""
        try:
            if (outcome := self._outcome) is not None:
                weights = np.ascontiguousarray(outcome.weights, dtype="<f4")
                write, summary = self._storage.write, self.folder / "summary.json"
                write(lambda: durable_files.write(self.weights, weights.data))
                write(lambda: write_summary(outcome, summary))
                content["outcome"] = outcome_to_json(outcome)
            content["tracking"] = asdict(self._tracking.finish(outcome, self._storage.write))
        except StudySuspendedError:
            raise
        except Exception as problem:
            return StudyState.FAILED, error or unexpected(problem)
        return state, error

    def _append(self, type_: str, **content: Any) -> None:
        self._storage.write(lambda: self.log.append(type_, **content))

    def _check(self) -> None:
        """Between two tries of a write. Raises StudySuspendedError."""
        self._sites.stopped()

    def _paused(self, why: str) -> None:
        if why:
            self._log("study-paused", why=why)
        else:
            self._log("study-resumed")

    def _log(self, event: str, **keys: str | int | float | None) -> None:
        self._services.journal.write(event, study=self.digest[:12], **keys)


def unexpected(error: Exception) -> WardroundError:
    """An error's own code, or its type and place and never its text, which may quote anything."""
    if isinstance(error, WardroundError):
        return error
    if isinstance(error, OSError):
        return WardroundError(
            Code.STATE,
            f"The coordinator cannot store this: {reason(error)}.",
            remedy="Its operator makes room on its disk, or repairs it; then try again.",
        )
    if isinstance(error, MemoryError):
        return WardroundError(
            Code.STATE,
            "The coordinator has too little memory for this.",
            remedy="Its operator gives it more, or lets fewer large studies run at once; then "
            "resume the study.",
        )
    return WardroundError(
        Code.INTERNAL,
        f"The coordinator met an unexpected {raised_at(error)}.",
        remedy="Its operator finds the study's folder under state/studies.",
    )
