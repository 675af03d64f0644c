"""The coordinator's service: SuperLink, control API, and the studies, each in a thread."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any, Self

import numpy as np

from protocol import durable_files
from protocol.address import Address
from protocol.errors import Code, WardroundError
from protocol.housekeeping import Housekeeping
from protocol.identity import fingerprint
from protocol.models.starting_model import check_parent
from protocol.release import RELEASE
from protocol.study.states import StudyState
from protocol.study.study import Study
from protocol.terminal.study_texts import check_texts
from protocol.vectors import Vector
from protocol.wire.enrolment import CARD_PATH
from protocol.wire.flower_encoding import DISK_FULL
from protocol.wire.sizes import refuse_too_large
from server.coordinator import lock, schema, setup
from server.coordinator.config import CoordinatorConfig
from server.coordinator.control_api import ControlApi
from server.coordinator.journal import Journal
from server.coordinator.membership import Members
from server.coordinator.study_run import CoordinatorServices, StudyRun, Submission
from server.coordinator.study_transport import StudyFleet
from server.enrolment.accounts import Accounts
from server.enrolment.invitation_api import InvitationApi
from server.enrolment.invitations import Invitations
from server.enrolment.json_store import write_json
from server.enrolment.roster import Roster
from server.enrolment.signing_key import signing_key
from server.report.gates import failed, judged
from server.review.decisions import FILE as DECISIONS
from server.review.decisions import Decisions, JudgedStudy
from server.review.offers import FOLDER as MODELS
from server.review.offers import Offers
from server.review.registry_follower import UnsignedApproval
from server.rounds.dry_run import dry_run
from server.tracking.parameters import redacted
from server.tracking.study_tracking import TrackingRequest
from server.transport.superlink import SuperLink, SuperLinkConfig
from tasks import registry

PREFIX = "/v1/wardround"
_INTERVAL = 0.5
"""Seconds between two readings of the roster file and of the list of connected sites."""
_STATUS_INTERVAL = 5.0
"""Seconds between two writings of status.json while the list of connected sites is the same."""


class Coordinator:
    """Use as a context manager, or `start` and `stop`; `serve` in between."""

    def __init__(self, config: CoordinatorConfig, journal: Journal) -> None:
        self.config, self.journal = config, journal
        host, port = Address.parse(config.listen)
        self.link = SuperLink(
            SuperLinkConfig(
                certificate=config.pki.certificate,
                private_key=config.pki.private_key,
                host=host,
                port=port,
                event_log=config.event_log,
            )
        )
        self.roster = Roster(config.roster)
        self.signer = signing_key(config.folder)
        self.undelivered = config.state / "undelivered"
        """A folder for each study that MLflow did not take (server/tracking/backlog.py)."""
        self._services = CoordinatorServices(
            self.link,
            self.roster,
            journal,
            config.waiting.patience,
            self.undelivered,
            self.signer,
        )
        self.decisions = Decisions(
            config.state / DECISIONS, Accounts(config.accounts), self.signer, self._judged
        )
        self.offers = Offers(config.state / MODELS, self.signer.public_key)
        self._unsigned: tuple[UnsignedApproval, ...] = ()
        self._unwatched, self._decided = "", -1
        self._folder = config.state / "studies"
        self._studies: dict[str, StudyRun] = {}
        self._submitting: set[str] = set()
        self._lock = threading.Lock()
        self._members = Members(self.link, self.roster, journal)
        self._housekeeping = Housekeeping(self._note)
        self._online: frozenset[str] = frozenset()
        self._noted, self._certificate, self._expiring = 0.0, 0, ""
        self._lock_file: int | None = None
        self._started = ""
        self.address = ""
        """host:port on which it listens, once started."""

    # --- life ---
    def start(self) -> Self:
        """Listens, and resumes every study that has not ended.

        A folder of an older release is migrated first. Raises WardroundError: STATE (another
        coordinator has this folder), RELEASE, CONFIGURATION, PORT_TAKEN, TLS.
        """
        durable_files.make_folder(self._folder)
        self._lock_file = lock.acquire(self.config)
        try:
            if schema.migrate(self.config.folder):
                self.journal.write("migrated", schema=schema.SCHEMA, version=RELEASE)
            self.roster.sites()
            for folder in sorted(self._folder.iterdir()):  # before anybody can ask for them
                if not folder.name.startswith("."):
                    self._load(folder.name)
            api = ControlApi(self, Accounts(self.config.accounts), self.journal, PREFIX)
            self.link.mount(PREFIX, api)
            invited = Invitations(self.config.invitations)
            bundle = partial(setup.bundle, self.config)
            self.link.mount(
                CARD_PATH.rpartition("/")[0], InvitationApi(invited, self.roster, bundle)
            )
            self.link.offer(self.config.state / MODELS)
            self.link.start()
        except BaseException:
            self._unlock()
            raise
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self.address = self.link.address
        key = fingerprint(self.signer.public_key)
        self.journal.write("coordinator", address=self.address, version=RELEASE, signing_key=key)
        self.journal.write(
            "limits",
            open_files=self.link.open_files,
            connections=self.link.limits.max_connections,
            an_address=self.link.limits.per_address,
        )
        for name, chore in self._chores().items():
            with self._housekeeping.task(name):
                chore()
        return self

    def stop(self) -> None:
        """Ends; studies that are running resume at the next start. May be called twice."""
        studies = self.studies()
        for study in studies:
            study.suspend()
        for study in studies:
            study.join(5.0)
        self.link.stop()
        with self._housekeeping.task("status"):
            self._write_status(running=False)
        self._unlock()
        self.journal.write("coordinator-ended")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def serve(self, ending: threading.Event) -> None:
        """Does the chores until `ending` is set; one that fails is tried again with the others."""
        while not ending.wait(_INTERVAL):
            for name, chore in self._chores().items():
                with self._housekeeping.task(name):
                    chore()

    # --- what the control API asks ---
    def federation(self) -> dict[str, Any]:
        """Sites with declared patients and whether they are connected, tasks with digests;
        `roster`: the version that new studies name, once a site's key was replaced."""
        online, history = self.link.online(), self.roster.history()
        tasks = {}
        for name in registry.installed():
            try:
                task = registry.load(name)
                tasks[name] = {"version": task.version, "source": task.source_digest()}
            except Exception as error:  # a broken plug-in hides itself only
                self.journal.write("task-broken", task=name, type=type(error).__name__)
        return {
            "version": RELEASE,
            "address": self.config.address,
            "tracking": self.config.tracking.uri is not None,
            "sites": {
                name: {"patients": entry.patients, "online": name in online}
                for name, entry in self.roster.sites().items()
            },
            "tasks": tasks,
            "roster": history.version if history.replaces_keys else None,
        }

    def studies(self) -> list[StudyRun]:
        """Every study, the latest first."""
        with self._lock:
            studies = list(self._studies.values())
        return sorted(studies, key=lambda study: study.submission.submitted, reverse=True)

    def study(self, digest: str) -> StudyRun | None:
        return self._studies.get(digest)

    def _judged(self, digest: str) -> JudgedStudy | None:
        """What a reviewer's decision about its model depends on."""
        if (study := self.study(digest)) is None:
            return None
        account, outcome = study.submission.account, study.released()
        if outcome is None:
            return JudgedStudy(account, ("the study has not finished",))
        gates = study.study.gates
        audited = study.study if gates is not None and gates.audit else None
        return JudgedStudy(account, failed(judged(outcome, account)), audited)

    def unsigned_approvals(self, found: tuple[UnsignedApproval, ...], trouble: str) -> None:
        """Takes in what was found in MLflow, or why nothing could be."""
        for one in sorted(set(found) - set(self._unsigned), key=str):
            self.journal.write("unsigned-approval", model=one.model, version=one.version)
        self._unsigned = found
        if trouble != self._unwatched:
            self._unwatched = trouble
            self.journal.write("approvals", why=trouble or "works again")

    def submit(
        self,
        account: str,
        study: Study,
        configuration: Mapping[str, Any],
        tracking: TrackingRequest,
    ) -> tuple[str, StudyState]:
        """Checks a study, opens its tracking and starts it; its digest and state.

        A study may be submitted again: one that rests resumes with the attempts that are left.
        Raises WardroundError (REFUSED_STUDY, TASK_CHANGED, UNKNOWN_TASK, USAGE, TRACKING, STATE),
        and then nothing was stored.
        """
        with self._alone(study):
            return self._submit(account, study, configuration, tracking)

    def resume(self, known: StudyRun) -> StudyState:
        """Goes on with a study that is paused, has failed or has expired; its state. Does nothing
        to one that neither rests nor is over.

        Raises WardroundError: USAGE for one that is over, and what `submit` raises.
        """
        with self._alone(known.study):
            return self._resume(known).state

    @contextmanager
    def _alone(self, study: Study) -> Iterator[None]:
        with self._lock:
            if study.digest in self._submitting:
                raise _busy("This study is being submitted already.")
            self._submitting.add(study.digest)
        try:
            yield
        finally:
            self._submitting.discard(study.digest)

    def consult(self, study: Study) -> dict[str, Any]:
        """Asks the connected sites whether they would take part; returns what `dry_run` returns.
        Nothing is recorded, here or at a site.

        Raises WardroundError: REFUSED_STUDY, TASK_CHANGED, UNKNOWN_TASK, IDENTITY, CONFIGURATION.
        """
        check_texts(study)
        self._check(study)
        sites = StudyFleet(self.link, f"plan-{study.digest[:8]}")
        try:
            return dry_run(study, sites, self.roster.keys(study), self._services.patience)
        finally:
            sites.hang_up()

    def _submit(
        self, account: str, study: Study, configuration: Mapping[str, Any], wish: TrackingRequest
    ) -> tuple[str, StudyState]:
        known = self._studies.get(study.digest)
        if known is not None and known.submission.account != account:
            raise WardroundError(
                Code.USAGE,
                "Somebody else's study has this digest.",
                remedy="Only its submitter can follow or resume a study; submit your own.",
            )
        if known is not None:
            run = known if known.state.over else self._resume(known)
            return run.digest, run.state
        check_texts(study)
        self._check(study)
        self._check_room()
        submission = Submission(
            account=account,
            submitted=datetime.now(UTC).isoformat(timespec="milliseconds"),
            tracking=wish,
            uri=self.config.tracking.uri,
        )
        folder, shown = self._folder / study.digest, redacted(configuration)
        start = self._start_of(study)
        run = StudyRun.create(folder, self._services, study, submission, shown, start)
        self._begin(run)
        return run.digest, run.state

    def _resume(self, known: StudyRun) -> StudyRun:
        if (state := known.state).over:
            raise WardroundError(
                Code.USAGE, f"The study is {state}, for good.", remedy="Run a new study."
            )
        if not state.rests:
            return known
        registry.load_same(known.study.task)  # its sites may be fewer by now: `Participants`
        self._check_room()
        run = known.resume()
        self._begin(run)
        return run

    def _begin(self, run: StudyRun) -> None:
        with self._lock:
            self._studies[run.digest] = run
        with self._housekeeping.task("studies"):  # tried again with the other chores
            run.start()

    def _check_room(self) -> None:
        """Raises WardroundError(USAGE) where too many studies are at work."""
        if sum(s.state.works for s in self.studies()) >= self.config.studies:
            raise _busy(f"{self.config.studies} studies are running already.")

    def _check(self, study: Study) -> None:
        """Raises WardroundError where this coordinator cannot run a new study."""
        task = registry.load_same(study.task)
        refuse_too_large(study)
        sites = self.roster.sites()
        if unknown := sorted(set(study.sites) - set(sites)):
            raise WardroundError(
                Code.REFUSED_STUDY,
                f"Not enrolled at this coordinator: {_first(unknown)}. The study names "
                f"{len(study.sites)} sites, {len(sites)} are enrolled: {_first(sites) or 'none'}.",
                remedy="Plan it for those that are enrolled (`wardround run` asks who is), or "
                "enrol the others first.",
            )
        self.roster.keys(study)
        for member in study.roster:
            if member.patients != sites[member.name].patients:
                raise WardroundError(
                    Code.REFUSED_STUDY,
                    f"The study says {member.patients} patients for {member.name}, "
                    f"which declares {sites[member.name].patients}.",
                    remedy="Build the study from what the coordinator says of its federation.",
                )
        from server.model.global_model import initial_weights  # PyTorch: not to wait for a study

        initial_weights(study, task, self._start_of(study))

    def _start_of(self, study: Study) -> Vector | None:
        """(P,) float32, the model that the study starts from, as one of this coordinator's own
        studies released it: what others hold of it is not asked. None where it starts from none.

        Raises WardroundError: REFUSED_STUDY where no finished study here made it, where that one is
        of another kind, or where less epsilon is said to come along; STATE where its weights were
        removed.
        """
        start = study.start
        if start is None:
            return None
        made = self.study(start.study)
        outcome = None if made is None else made.released()
        if made is None or outcome is None:
            raise WardroundError(
                Code.REFUSED_STUDY,
                f"The study starts from the model {start.model}, and study {start.study[:12]}, "
                "which made it, has not finished at this coordinator.",
                remedy="Start from a model that this coordinator released, or leave start.model "
                "out. Elsewhere, models of any coordinator can be started from in one process.",
            )
        check_parent(study, made.study)
        try:
            content = made.weights.read_bytes()
        except OSError:
            raise WardroundError(
                Code.STATE,
                f"The coordinator has the weights of study {start.study[:12]} no longer.",
                remedy="They were removed (`wardround coordinator prune`): put them back from a "
                "backup, or start from another model.",
            ) from None
        return np.frombuffer(content, dtype="<f4").astype(np.float32)

    # --- inside ---
    def _load(self, name: str) -> None:
        try:
            run = StudyRun.load(self._folder / name, self._services)
            if run.digest != name:
                raise WardroundError(
                    Code.STATE,
                    "The folder's name is not the study's digest.",
                    remedy="Call it by the digest again, or remove it.",
                )
        except WardroundError as error:
            self.journal.write("study-unreadable", study=name[:64], code=error.code)
            return
        self._studies[name] = run

    def _chores(self) -> dict[str, Callable[[], None]]:
        return {
            "roster": self._members.follow_roster,
            "decisions": self._follow_decisions,
            "studies": self._start_studies,
            "farewells": self._tell_of_ends,
            "sites": self._tell_sites,
            "status": self._follow_status,
            "certificate": self._follow_certificate,
        }

    def _note(self, task: str, why: str) -> None:
        self.journal.write("housekeeping", task=task, why=why or "works again")

    def _start_studies(self) -> None:
        for study in self.studies():
            if study.due:
                study.start()

    def _tell_of_ends(self) -> None:
        for study in self.studies():
            study.tell_sites()

    def _tell_sites(self) -> None:
        self.link.announce(DISK_FULL if any(study.paused for study in self.studies()) else "")

    def _follow_decisions(self) -> None:
        """Tells sites of new decisions. Raises WardroundError(STATE) for a damaged record."""
        if (history := self.decisions.history).number != self._decided:
            self.link.publish_decisions(history)
            self._decided = history.number

    def _follow_status(self) -> None:
        """Writes status.json when a site came or went, and every few seconds."""
        online = self._members.follow_connections()
        if online != self._online or time.monotonic() - self._noted > _STATUS_INTERVAL:
            self._write_status(running=True)
            self._online, self._noted = online, time.monotonic()

    def attention(self) -> tuple[str, ...]:
        """What its operator should do before it fails, in sentences."""
        expiring = (self._expiring,) if self._expiring else ()
        return (*expiring, *map(str, self._unsigned))

    def failing(self) -> dict[str, str]:
        """What it cannot do now -> why."""
        failing = dict(self._housekeeping.failing)
        if self._expiring and self.config.pki.days_left() <= 0:
            failing["certificate"] = self._expiring
        if self.journal.trouble:
            failing["event log"] = self.journal.trouble
        return failing

    def _write_status(self, *, running: bool) -> None:
        write_json(
            self.config.state / "status.json",
            {
                "running": running,
                "pid": os.getpid(),
                "address": self.address,
                "since": self._started,
                "online": sorted(self.link.online()) if running else [],
                "studies": [study.row() for study in self.studies()],
                "failing": self.failing(),
                "unsigned": [str(one) for one in self._unsigned] if running else [],
            },
        )

    def _follow_certificate(self) -> None:
        """Loads a renewed certificate. Raises OSError while it, or its key, cannot be used."""
        seen = self.config.pki.certificate.stat().st_mtime_ns
        if self._certificate not in (0, seen):
            self.link.renew_certificate()
            self.journal.write("certificate-renewed")
        self._certificate = seen
        if (warning := self.config.pki.warning()) != self._expiring:
            self.journal.write("certificate", why=warning or "good again")
            self._expiring = warning

    def _unlock(self) -> None:
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None


def _first(sites: Collection[str]) -> str:
    """The names of the first three."""
    return f"{', '.join(sorted(sites)[:3])}{', ...' if len(sites) > 3 else ''}"


def _busy(message: str) -> WardroundError:
    return WardroundError(Code.USAGE, message, remedy="Try again later.")
