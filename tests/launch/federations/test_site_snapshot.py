"""A site that moves from worker to worker between any two messages is still the same site."""

from collections.abc import Iterator, Mapping

import numpy as np
import pytest

from client.data.cohort import Cohort
from launch.config import compose
from launch.federations.inprocess import InProcessFederation, cohorts_of
from launch.federations.site_snapshot import WorkerContext
from launch.studies.run import declared_patients, split_plan
from launch.studies.study_builder import build_study
from protocol.identity import Identity
from protocol.study.study import Study
from protocol.wire.messages import Frame
from server.outcome import Outcome
from server.rounds.listener import Listeners
from server.rounds.proposal import Patience
from server.rounds.round_loop import RoundLoop
from tasks.shipped.breast_cancer import BreastCancer

TASK = BreastCancer()
COHORTS = cohorts_of(TASK, TASK.public_sites(None), split_plan(compose.load([])))


class Wandering:
    """Every message finds its site at another of two stations, as bytes that the last one left."""

    def __init__(self, study: Study, loads: list[str]) -> None:
        keys = {site: Identity.generate() for site in COHORTS}

        def cohort(site: str) -> Cohort:
            loads.append(site)
            return COHORTS[site]

        self.stations = [WorkerContext(study, TASK, keys, cohort) for _ in range(2)]
        self.roster = self.stations[0].roster
        self.frozen: dict[str, bytes] = {}
        self.asked = 0

    def online(self) -> frozenset[str]:
        return frozenset(COHORTS)

    def ask(
        self, frames: Mapping[str, Frame], timeout: float
    ) -> Iterator[tuple[str, Frame | None]]:
        for name, frame in frames.items():
            self.asked += 1
            station = self.stations[(self.asked + self.asked // 4) % 2]
            frozen = self.frozen.get(name)
            site = station.thaw(name, frozen) if frozen else station.site(name)
            answer = site.answer(frame)
            self.frozen[name] = station.freeze(site)
            yield name, answer


def study(*overrides: str) -> Study:
    config = compose.load(["rounds=4", *overrides])
    return build_study(config, TASK, declared_patients(COHORTS))


def wandered(of: Study, loads: list[str]) -> Outcome:
    fleet = Wandering(of, loads)
    patience = Patience(join=0.0, poll=0.0, failures=1)
    return RoundLoop(of, TASK, fleet, fleet.roster, Listeners(), patience=patience).run()


@pytest.mark.parametrize("algorithm", ["fedavg", "fedprox", "scaffold", "ditto"])
def test_a_study_over_wandering_sites_is_the_same_study(algorithm: str) -> None:
    of = study("privacy=none", f"algorithm={algorithm}", "federation.masked=true")
    loads: list[str] = []
    there = wandered(of, loads)
    here = InProcessFederation(COHORTS).run(of, TASK, Listeners())
    assert np.array_equal(there.weights, here.weights)
    assert there.metrics == here.metrics
    assert len(loads) <= 4 * len(COHORTS), "patients are not loaded for every message"


@pytest.mark.parametrize("mode", ["local", "distributed"])
def test_one_time_keys_and_noise_survive_the_journey(mode: str) -> None:
    of = study(f"privacy={mode}", "privacy.epsilon=8", "federation.masked=true")
    outcome = wandered(of, [])
    assert outcome.status == "finished"
    assert len(outcome.rounds) == 4


def test_what_travels_is_the_site_s_own_and_small() -> None:
    of = study("privacy=none", "federation.masked=true")
    fleet = Wandering(of, [])
    RoundLoop(of, TASK, fleet, fleet.roster, Listeners(), patience=Patience(join=0.0)).run()
    records = {len(cohort.features) for cohort in COHORTS.values()}
    assert min(records) > 40
    for frozen in fleet.frozen.values():
        assert len(frozen) < 12_288  # the words of an attempt, and its answer, are 4 KB each
        for cohort in COHORTS.values():
            assert cohort.features[0].tobytes() not in frozen
