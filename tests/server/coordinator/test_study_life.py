"""A study's life in generated histories: real ledgers, real journals and attempts, real masks.

Only the wire between them is in memory, and an event strikes at a chosen exchange: the coordinator
is killed, a site leaves or restarts, the owner pauses or cancels, days pass, other studies reserve.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from client.config.known_roster import KnownRoster
from client.config.policy import Policy
from client.config.site_config import CoordinatorAddress, SiteConfig
from client.daemon.site import Site
from client.data.cohort import Cohort
from client.governance.budget import budget
from client.governance.database import SiteState
from client.governance.governance import SiteGovernance
from client.training.algorithm_state import algorithm_state_in
from client.transport.node_key import create_node_key
from protocol.identity import Identity
from protocol.privacy.releases import spent_epsilon
from protocol.study.states import StudyState
from protocol.study.study import Study
from protocol.wire import messages
from protocol.wire.enrolment import EnrolmentCard
from protocol.wire.messages import Frame
from server.coordinator.journal import Journal
from server.coordinator.study_run import CoordinatorServices, StudyRun, Submission
from server.enrolment.roster import Roster
from server.rounds.proposal import Patience
from server.tracking.study_tracking import TrackingRequest
from server.transport.superlink import SuperLink
from tests.attack.simulated import cohorts, study_of
from tests.client.hospital import Clock

SITES = ("site0", "site1", "site2")
EXPIRES = "2026-03-05"
RULES: dict[str, Any] = {
    "tasks": ["breast_cancer"],
    "purposes": ["research"],
    "modes": ["distributed"],
    "approval": "rule",
    "epsilon_per_study": 8.0,
    "epsilon_lifetime": 12.0,
    "epsilon_broken": 1000.0,
    "delta": 1e-3,
    "participant_sets": 100,
}


class KilledError(BaseException):
    """The coordinator's process ends here."""


@cache
def patients() -> dict[str, Cohort]:
    return cohorts(len(SITES))


@cache
def study(number: int, expires: str) -> Study:
    made = study_of(
        SITES,
        "privacy=distributed",
        "privacy.epsilon=4",
        "rounds=3",
        "aggregation.spare_attempts=9",
        "aggregation.least_sites=3",
        f"expires={expires or chr(39) * 2}",
    )
    return made.model_copy(update={"nonce": f"{number:016x}"})


@dataclass
class Hospital:
    """A real site with its state folder; away, or there."""

    name: str
    folder: Path
    identity: Identity
    roster: Mapping[str, str]
    clock: Clock
    there: bool = True

    def __post_init__(self) -> None:
        key = self.identity.public_key.hex()
        SiteState.create(self.folder, self.name, key, clock=self.clock).close()
        self.open()

    def open(self) -> None:
        config = SiteConfig.model_construct(
            site=self.name,
            state=self.folder,
            roster=dict(self.roster),
            policy=Policy.model_validate(RULES),
            data={},
            patients=None,
            coordinator=CoordinatorAddress.model_construct(),
        )
        self.governance = SiteGovernance(config, self.identity, daemon=True, clock=self.clock)
        self.site = Site(
            self.name,
            self.identity,
            KnownRoster(self.roster),
            self.governance,
            lambda task, study: patients()[self.name],
            keep=lambda study: algorithm_state_in(
                self.folder, study.digest, study.model.parameters
            ),
        )
        for accepted in self.governance.approvals.accepted():
            self.site.reopen(accepted)

    def restart(self) -> None:
        self.governance.close_state()
        self.open()

    def debits(self, digest: str) -> dict[str, int]:
        """Part -> attempts debited for a study."""
        with self.governance.state.reading() as db:
            rows = db.execute(
                "SELECT part, SUM(count) FROM debits WHERE study = ? GROUP BY part", (digest,)
            )
            return dict(rows.fetchall())

    def standing(self, digest: str) -> tuple[str, str]:
        """(state, expires) of a study's row; ("", "") where it was never proposed."""
        with self.governance.state.reading() as db:
            row = db.execute(
                "SELECT state, expires FROM studies WHERE digest = ?", (digest,)
            ).fetchone()
        return tuple(row) if row else ("", "")


@dataclass
class Wire:
    """The link to the hospitals, in memory. After `left` questions `strikes` is called once."""

    hospitals: dict[str, Hospital]
    left: int = -1
    strikes: Callable[[], None] = lambda: None
    open: bool = True
    asked: dict[int, str] = field(default_factory=dict)
    """Attempt -> SHA-256 of the only Prepare that may ever bear its number."""

    def online(self) -> frozenset[str]:
        return frozenset(name for name, hospital in self.hospitals.items() if hospital.there)

    def open_run(self, label: str) -> Wire:
        self.open = True
        return self

    def close(self) -> None:
        self.open = False

    def ask(
        self, frames: Mapping[str, Frame], timeout: float
    ) -> Iterator[tuple[str, Frame | None]]:
        if frames:
            self._note(next(iter(frames.values())))
        for name, frame in frames.items():
            if self.left == 0:
                self.strikes()
            self.left -= 1
            there = self.open and self.hospitals[name].there
            yield name, self.hospitals[name].site.answer(frame) if there else None

    def _note(self, frame: Frame) -> None:
        message = messages.parse(frame)
        if not isinstance(message, messages.Prepare):
            return
        hashed = hashlib.sha256(frame.header)
        for chunk in frame.body:
            hashed.update(chunk)
        assert message.attempt not in self.asked, "an attempt is begun a second time"
        assert message.attempt > max(self.asked, default=0), "an attempt's number goes back"
        self.asked[message.attempt] = hashed.hexdigest()


class Life(RuleBasedStateMachine):
    """One study at a coordinator and three hospitals, with rivals for the hospitals' budgets."""

    @initialize(expires=st.sampled_from(["", EXPIRES]))
    def found(self, expires: str) -> None:
        self.folder, self.clock = Path(tempfile.mkdtemp()), Clock()
        self.study, self.rivals = study(1, expires), dict[str, list[Study]]()
        keys = {name: Identity.generate() for name in SITES}
        known = {name: key.public_key.hex() for name, key in keys.items()}
        hospitals = {
            name: Hospital(name, self.folder / name, keys[name], known, self.clock)
            for name in SITES
        }
        roster = Roster(self.folder / "roster.json")
        for name in SITES:
            card = EnrolmentCard(
                site=name,
                identity=known[name],
                node_key=create_node_key(self.folder / f"{name}.pem").decode(),
            )
            roster.add(card, 100)
        self.wire = Wire(hospitals)
        patience = Patience(answer=1.0, join=0.0, poll=0.0, failures=2)
        journal = Journal(None, console=None)
        self.services = CoordinatorServices(
            cast(SuperLink, self.wire), roster, journal, patience, self.folder / "undelivered",
            Identity.generate(),
        )  # fmt: skip
        wish = TrackingRequest(experiment="none", model=None)
        sent = Submission(account="ada", submitted="2026", tracking=wish, uri=None)
        self.run = StudyRun.create(
            self.folder / self.study.digest, self.services, self.study, sent, {}
        )
        self.spent = dict.fromkeys(SITES, 0)
        self.over: StudyState | None = None

    def teardown(self) -> None:
        if hasattr(self, "wire"):
            for hospital in self.wire.hospitals.values():
                hospital.governance.audit.verify()
                hospital.governance.close_state()
            shutil.rmtree(self.folder)

    def work(self, questions: int, strikes: Callable[[], None]) -> None:
        """Does the coordinator's work in this thread, and lets something happen on the way."""
        self.wire.left, self.wire.strikes = questions, strikes
        try:
            self.run._work()
        except KilledError:
            self.run = StudyRun.load(self.run.folder, self.services)
        self.wire.left = -1

    def kill(self) -> None:
        raise KilledError

    # --- what happens ---
    @precondition(lambda self: self.run.state.works)
    @rule(questions=st.integers(0, 30))
    def the_coordinator_is_killed(self, questions: int) -> None:
        self.work(questions, self.kill)

    @precondition(lambda self: self.run.state.works)
    @rule(questions=st.integers(0, 30))
    def the_owner_pauses(self, questions: int) -> None:
        self.work(questions, lambda: self.run.pause())

    @precondition(lambda self: self.run.state.works)
    @rule(questions=st.integers(0, 30), site=st.sampled_from(SITES))
    def a_site_leaves_at_work(self, questions: int, site: str) -> None:
        self.work(questions, lambda: self.leaves(site))

    @precondition(lambda self: self.run.state.works)
    @rule(questions=st.integers(0, 30), site=st.sampled_from(SITES))
    def a_site_restarts_at_work(self, questions: int, site: str) -> None:
        self.work(questions, self.wire.hospitals[site].restart)

    @precondition(lambda self: self.run.state.works)
    @rule()
    def it_goes_on(self) -> None:
        self.work(-1, lambda: None)

    @rule(site=st.sampled_from(SITES))
    def leaves(self, site: str) -> None:
        self.wire.hospitals[site].there = False

    @rule()
    def all_are_back(self) -> None:
        for hospital in self.wire.hospitals.values():
            hospital.there = True

    @rule(site=st.sampled_from(SITES))
    def a_site_restarts(self, site: str) -> None:
        self.wire.hospitals[site].restart()

    @rule(days=st.integers(1, 3))
    def days_pass(self, days: int) -> None:
        self.clock.now += timedelta(days=days)

    @rule(site=st.sampled_from(SITES), number=st.integers(2, 5))
    def a_rival_reserves(self, site: str, number: int) -> None:
        rival = study(number, "")
        if self.wire.hospitals[site].governance.propose(rival)[0] == "accepted":
            self.rivals.setdefault(site, []).append(rival)

    @rule(site=st.sampled_from(SITES))
    def rivals_end(self, site: str) -> None:
        for rival in self.rivals.pop(site, []):
            self.wire.hospitals[site].governance.close(rival, "finished")

    @precondition(lambda self: self.run.state.rests)
    @rule()
    def it_is_resumed(self) -> None:
        for hospital in self.wire.hospitals.values():
            state, expires = hospital.standing(self.study.digest)
            if state in ("paused", "failed") and expires >= self.clock.now.date().isoformat():
                held = hospital.governance.propose(self.study)
                assert held == ("accepted", None), "what is reserved can go on"
        self.run = self.run.resume()
        assert self.run.state.works

    @precondition(lambda self: self.run.state.rests)
    @rule()
    def it_is_cancelled(self) -> None:
        self.run.cancel()
        assert self.run.due
        self.run._work()
        assert self.run.state is StudyState.CANCELLED

    @precondition(lambda self: not self.run.state.works)
    @rule()
    def the_coordinator_restarts_at_rest(self) -> None:
        before = self.run.state
        self.run = StudyRun.load(self.run.folder, self.services)
        assert (self.run.state, self.run.due) == (before, False), "nothing goes on unasked"

    @precondition(lambda self: not self.run.state.works)
    @rule()
    def the_last_word_is_said(self) -> None:
        self.run._announce()

    # --- what always holds ---
    @invariant()
    def debits_never_fall_and_the_report_covers_them(self) -> None:
        if not hasattr(self, "run"):
            return
        path = self.run.folder / "attempts.json"
        begun = json.loads(path.read_bytes()) if path.exists() else {}
        for name, hospital in self.wire.hospitals.items():
            debits = hospital.debits(self.study.digest)
            assert sum(debits.values()) >= self.spent[name], "a debit was taken back"
            self.spent[name] = sum(debits.values())
            assert debits.get("train", 0) <= begun.get("trainings", 0)
            assert debits.get("evaluate", 0) <= begun.get("evaluations", 0)
            if self.run.state is StudyState.FINISHED:
                summary = json.loads((self.run.folder / "summary.json").read_bytes())
                paid = spent_epsilon(self.study, debits.get("train", 0), debits.get("evaluate", 0))
                assert paid is not None
                assert summary["epsilon"] >= paid

    @invariant()
    def what_is_over_stays_over(self) -> None:
        if hasattr(self, "run"):
            state = self.run.state
            assert self.over in (None, state)
            self.over = state if state.over else None

    @invariant()
    def no_reservation_outlives_the_end_or_its_day(self) -> None:
        if not hasattr(self, "run"):
            return
        today = self.clock.now.date().isoformat()
        for name, hospital in self.wire.hospitals.items():
            if self.rivals.get(name):
                continue
            state, expires = hospital.standing(self.study.digest)
            told = name not in self.run._farewell.untold
            lapsed = bool(expires) and expires < today
            released = state in ("paused", "failed") and not expires
            if (self.run.state.over and told) or lapsed or released:
                account = budget(hospital.governance.state, hospital.governance.policy)
                assert account.reserved == account.spent


LIVES = settings(
    max_examples=15,
    stateful_step_count=14,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.timeout(900)
def test_generated_lives() -> None:
    run_state_machine_as_test(Life, settings=LIVES)
