"""Who is asked: willing sites, at work, and never at another hospital's expense."""

from collections.abc import Callable

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
from protocol.study.study import Study
from protocol.study.vector_layout import Sections
from server.outcome import Outcome
from server.rounds.listener import Listeners
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
    monkeypatch.setattr("server.rounds.participants._HOURS_POLL", 0.0)
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
