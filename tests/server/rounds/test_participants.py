"""Who is asked: willing sites, at work, and never at another hospital's expense."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from client.daemon.site import Site, StandingState
from launch.config import compose
from launch.federations.inprocess import (
    InProcessFederation,
    InProcessFleet,
    SimulatedGovernance,
    cohorts_of,
)
from launch.studies.run import declared_patients, split_plan
from launch.studies.study_builder import build_study
from protocol.errors import Code, WardroundError
from protocol.privacy.releases import spent_epsilon
from protocol.study.study import Study
from protocol.study.vector_layout import Sections
from protocol.wire import messages
from protocol.wire.messages import Frame
from server.model import attempt_record
from server.model.attempts import Attempts
from server.outcome import Outcome, RoundReport
from server.rounds.listener import Listener, Listeners, Reason
from server.rounds.proposal import Patience
from server.rounds.round_loop import RoundLoop
from tasks.shipped.breast_cancer import BreastCancer

TASK = BreastCancer()
CONFIG = compose.load(
    ["privacy=distributed", "rounds=8", "aggregation.spare_attempts=4", "evaluation.fraction=0.3"]
)
COHORTS = cohorts_of(TASK, TASK.public_sites(None), split_plan(CONFIG))


class Whimsical(SimulatedGovernance):
    """A site whose governance refuses by a rule of the test's."""

    def __init__(self, rule: Callable[[int], Code | None]) -> None:
        super().__init__()
        self.rule, self.proposals, self.prepares, self.attempts = rule, 0, 0, 0

    def propose(self, study: Study) -> tuple[StandingState, Code | None]:
        self.proposals += 1
        return "accepted", None

    def admit(self, study: Study) -> None:
        if code := self.rule(self.attempts):
            raise WardroundError(code, "not now")

    def debit(self, study: Study, round_: int, attempt: int, sections: Sections) -> None:
        super().debit(study, round_, attempt, sections)
        self.attempts += 1


class ComesAndGoes(InProcessFleet):
    """A fleet with sites that are away."""

    def __init__(self, federation: InProcessFederation, *away: str) -> None:
        super().__init__(federation._fleet._sites)
        self.away = set(away)

    def online(self) -> frozenset[str]:
        return super().online() - self.away


class Hears(Listener):
    """Lets the site that is away come back once the first round is done."""

    def __init__(self, fleet: ComesAndGoes, *, back: bool = True) -> None:
        self.fleet, self.back, self.waited = fleet, back, list[tuple[str, ...]]()

    def waiting(self, why: Reason, sites: tuple[str, ...]) -> None:
        self.waited.append(sites)

    def round(self, report: RoundReport) -> None:
        if self.back:
            self.fleet.away.clear()


def with_grace(seconds: float | None, *words: str) -> Study:
    config = compose.load(["privacy=distributed", "rounds=3", *words]) if words else CONFIG
    study = build_study(config, TASK, declared_patients(COHORTS))
    return study.model_copy(
        update={"aggregation": study.aggregation.model_copy(update={"grace": seconds})}
    )


NEVER = 86_400.0
"""Seconds: longer than any test lasts."""


def test_a_study_starts_without_an_absent_site_and_takes_it_in_at_the_next_round() -> None:
    federation = InProcessFederation(COHORTS)
    fleet = ComesAndGoes(federation, "west")
    hears, patience = Hears(fleet), Patience(join=NEVER, poll=0.0)
    remembered = list[list[str]]()
    loop = RoundLoop(
        with_grace(0.0), TASK, fleet, federation.roster, hears, patience=patience,
        remember=lambda accepted: remembered.append(sorted(accepted)),
    )  # fmt: skip
    counts = [report.participants for report in loop.run().rounds]
    assert counts == [3] + [4] * 7
    assert remembered == [["east", "north", "south"], ["east", "north", "south", "west"]]


def test_a_restarted_study_waits_for_those_that_had_accepted_and_for_no_other() -> None:
    federation = InProcessFederation(COHORTS)
    fleet = ComesAndGoes(federation, "west")
    loop = RoundLoop(
        with_grace(NEVER), TASK, fleet, federation.roster, Hears(fleet, back=False),
        patience=Patience(join=NEVER, poll=0.0), accepted=("east", "north", "south"),
    )  # fmt: skip
    assert [report.participants for report in loop.run().rounds] == [3] * 8


@pytest.mark.parametrize("words", [("privacy=none",), ("privacy=none", "evaluation=off")])
def test_an_exact_sum_is_of_the_whole_roster_whatever_the_grace(words: tuple[str, ...]) -> None:
    federation = InProcessFederation(COHORTS)
    fleet = ComesAndGoes(federation, "west")
    loop = RoundLoop(
        with_grace(0.0, "evaluation=exact", *words), TASK, fleet, federation.roster, Hears(fleet),
        patience=Patience(join=0.0, poll=0.0), accepted=("east", "north", "south"),
    )  # fmt: skip
    with pytest.raises(WardroundError, match="3 of 4 sites take part, 4 are needed") as refused:
        loop.run()
    assert refused.value.code is Code.TOO_FEW_SITES
    assert loop.attempts.made == 0


def test_without_a_grace_all_are_waited_for_as_release_0_1_0_does() -> None:
    federation = InProcessFederation(COHORTS)
    fleet = ComesAndGoes(federation, "west")

    class ComesBack(Hears):
        def waiting(self, why: Reason, sites: tuple[str, ...]) -> None:
            super().waiting(why, sites)
            if len(self.waited) == 3:
                self.fleet.away.clear()

    hears, patience = ComesBack(fleet, back=False), Patience(join=NEVER, poll=0.0)
    study = with_grace(None)
    assert b"grace" not in study.document
    outcome = RoundLoop(study, TASK, fleet, federation.roster, hears, patience=patience).run()
    assert [report.participants for report in outcome.rounds] == [4] * 8
    assert hears.waited == [("west",)] * 3 + [()]


def run(rule: Callable[[int], Code | None]) -> tuple[Outcome, Whimsical]:
    study = build_study(CONFIG, TASK, declared_patients(COHORTS))
    federation = InProcessFederation(COHORTS)
    sites: dict[str, Site] = dict(federation._fleet._sites)
    whimsical = Whimsical(rule)
    sites["west"]._governance = whimsical
    patience = Patience(join=5.0, poll=0.0, failures=3)
    rounds = RoundLoop(
        study, TASK, InProcessFleet(sites), federation.roster, Listeners(), patience=patience
    )
    return rounds.run(), whimsical


def test_a_site_that_revokes_is_asked_no_more_and_the_rest_goes_on() -> None:
    outcome, west = run(lambda attempts: Code.REVOKED if attempts >= 3 else None)
    assert outcome.status == "finished"
    assert [r.participants for r in outcome.rounds][-1] == 3
    assert sum(error.code is Code.REVOKED for error in west.errors) <= 2


def test_a_site_outside_its_hours_rests_and_costs_the_others_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("server.rounds.participants._ASK_AGAIN", 0.0)
    west_state = {"looks": 0}

    def rule(attempts: int) -> Code | None:
        if attempts < 2:
            return None
        west_state["looks"] += 1
        return Code.OUTSIDE_HOURS if west_state["looks"] <= 3 else None

    outcome, west = run(rule)
    counts = [report.participants for report in outcome.rounds]
    assert outcome.status == "finished"
    assert 3 in counts
    assert counts[-1] == 4
    assert outcome.rounds[-1].attempt <= 9
    assert west.proposals >= 2


class Troubled(Whimsical):
    """The same site, which says so when a study is proposed, too."""

    def propose(self, study: Study) -> tuple[StandingState, Code | None]:
        super().propose(study)
        code = self.rule(self.attempts)
        return ("refused", code) if code else ("accepted", None)


@pytest.mark.parametrize("code", [Code.LEDGER, Code.STATE, Code.AUDIT, Code.CLOCK])
@pytest.mark.parametrize("done", [0, 1], ids=["from the start", "after a round"])
def test_an_exact_study_waits_for_a_site_whose_disk_or_clock_is_mended_and_loses_one_attempt(
    monkeypatch: pytest.MonkeyPatch, code: Code, done: int
) -> None:
    monkeypatch.setattr("server.rounds.participants._TROUBLED", 0.0)
    looks = list[int]()

    def rule(attempts: int) -> Code | None:
        if attempts >= done:
            looks.append(attempts)
        return code if attempts >= done and len(looks) <= 5 else None

    config = compose.load(
        ["privacy=none", "evaluation=exact", "rounds=3", "aggregation.spare_attempts=1"]
    )
    study = build_study(config, TASK, declared_patients(COHORTS))
    federation = InProcessFederation(COHORTS)
    sites: dict[str, Site] = dict(federation._fleet._sites)
    sites["west"]._governance = Troubled(rule)
    patience = Patience(join=NEVER, poll=0.0, failures=2)
    fleet = InProcessFleet(sites)
    hears = Hears(ComesAndGoes(federation))
    outcome = RoundLoop(study, TASK, fleet, federation.roster, hears, patience=patience).run()
    assert [report.participants for report in outcome.rounds] == [4] * 3
    assert outcome.rounds[-1].attempt == 3 + done
    assert ("west",) in hears.waited


class Ahead(SimulatedGovernance):
    """A site that has answered attempts which a restored coordinator does not know of."""

    def __init__(self, study: Study, answered: int) -> None:
        super().__init__()
        self._last[study.digest] = (1, answered)

    def last_attempt(self, study: Study) -> int:
        return self._last[study.digest][1]


def test_a_restored_study_counts_on_from_what_a_site_has_answered_that_comes_later(
    tmp_path: Path,
) -> None:
    study, federation = with_grace(0.0), InProcessFederation(COHORTS)
    fleet, begun = ComesAndGoes(federation, "west"), tmp_path / "attempts.json"
    fleet._sites["west"]._governance = west = Ahead(study, 4)
    attempt_record.record(begun, Attempts())
    attempt_record.put_back(begun)
    patience = Patience(join=NEVER, poll=0.0)
    loop = RoundLoop(
        study, TASK, fleet, federation.roster, Hears(fleet), patience=patience, begun=begun
    )
    rounds = loop.run().rounds
    assert [report.participants for report in rounds] == [3] + [4] * 7
    assert [report.attempt for report in rounds] == [1, 5, 6, 7, 8, 9, 10, 11]
    assert west.errors == []
    assert not attempt_record.is_behind(begun)


class Silent(InProcessFleet):
    """A fleet in which no share of `west` arrives from a round on, however often it is asked."""

    def __init__(self, federation: InProcessFederation, round_: int) -> None:
        super().__init__(federation._fleet._sites)
        self.round = round_

    def ask(
        self, frames: Mapping[str, Frame], timeout: float
    ) -> Iterator[tuple[str, Frame | None]]:
        for site, answer in super().ask(frames, timeout):
            asked = messages.parse(frames[site])
            late = isinstance(asked, messages.Collect) and asked.round >= self.round
            yield site, None if late and site == "west" else answer


def test_when_attempts_are_spent_the_model_so_far_is_released_as_unfinished() -> None:
    study = with_grace(None, "privacy.epsilon=2", "aggregation.spare_attempts=1")
    federation, hears = InProcessFederation(COHORTS), Keeps(study)
    loop = RoundLoop(
        study, TASK, Silent(federation, 3), federation.roster, hears,
        patience=Patience(join=0.0, poll=0.0, comeback=0.0),
    )  # fmt: skip
    with pytest.raises(WardroundError, match="released as unfinished") as spent:
        loop.run()
    assert spent.value.code is Code.ATTEMPTS_SPENT
    (outcome,) = hears.outcomes
    assert (outcome.released, len(outcome.rounds)) == ("unfinished", 2)
    assert outcome.epsilon == spent_epsilon(study, 5, 0), "two that opened and three that did not"
    assert np.array_equal(outcome.weights, loop.model.released)
    assert hears.left == [0, -1, -2], "of one that was planned"


class Keeps(Listener):
    """Keeps the outcome, and what is left after each loss."""

    def __init__(self, study: Study) -> None:
        self.study, self.outcomes, self.left = study, list[Outcome](), list[int]()

    def lost(self, round_: int, attempt: int, why: str) -> None:
        self.left.append(self.study.spare_left(round_, attempt))

    def finish(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)


def test_a_slow_site_is_left_out_where_there_are_enough_others() -> None:
    federation = InProcessFederation(COHORTS)
    study = with_grace(0.0)
    slow = study.model_copy(
        update={"aggregation": study.aggregation.model_copy(update={"slow": 2.0})}
    )
    loop = RoundLoop(
        slow, TASK, federation._fleet, federation.roster, Listeners(),
        patience=Patience(join=0.0, poll=0.0, comeback=0.0),
    )  # fmt: skip
    quick = dict.fromkeys(("east", "north", "south"), 20.0)
    loop._participants.pace.note(1, quick | {"west": 50.0})
    counts = [report.participants for report in loop.run().rounds]
    assert counts == [4 if round_ > 2 else 3 for round_ in range(1, 9)]
    loop._participants.pace._until = dict.fromkeys(COHORTS, 99)
    assert loop._asked(Sections(slow, train=True, evaluate=False), 9) == frozenset(COHORTS)
