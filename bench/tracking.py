"""What MLflow costs a study: nothing while it runs, whatever MLflow does, and seconds at its end.

    python bench/tracking.py [--blocks 3]

Studies of heart disease with four simulated hospitals in this process, masked and private, 60
rounds, each evaluated. Their rounds alternate: untracked; tracked by an MLflow server of its own
process that answers every call 5 s late from the first round on; tracked by one that is killed with
the first round and started again after the last. Seconds are from the first round's report to the
last one's. Afterwards every round must be in MLflow, and no run may be open. What the card, the
figures and the registration add is the time from the end of a study's rounds until a server that
answers at once has all of it; MLflow's client is imported before.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from launch.config.compose import load as composed
from launch.demo.mlflow_server import MlflowServer
from launch.federations.inprocess import InProcessFederation, cohorts_of
from launch.studies.public_data import data_root
from launch.studies.run import declared_patients, split_plan
from launch.studies.study_builder import build_study
from protocol.identity import Identity
from protocol.study.study import Study
from server.outcome import Outcome, RoundReport
from server.rounds.listener import Listener, Listeners
from server.tracking.mlflow_run import client_of, experiment_id
from server.tracking.tracker import MlflowTracker
from support.figure import figure, load
from support.slow_server import SlowServer
from tasks import registry

ROUNDS = 60
LATE = 5.0
EXPERIMENT = "bench"
PLAN = (
    "task=heart_disease",
    "privacy=distributed",
    "privacy.epsilon=3",
    "privacy.delta=1e-3",
    "privacy.sampling_rate=0.2",
    "evaluation.every=1",
    f"rounds={ROUNDS}",
    "tracking=off",
)


class _Clock(Listener):
    """When rounds were reported; `first` is called after the first of them."""

    def __init__(self, first: Callable[[], object] = lambda: None) -> None:
        self.times: list[float] = []
        self._first = first

    def round(self, report: RoundReport) -> None:
        self.times.append(time.perf_counter())
        if len(self.times) == 1:
            self._first()
            self.times[0] = time.perf_counter()

    @property
    def seconds(self) -> float:
        return self.times[-1] - self.times[0]


class Studies:
    """One federation, and studies of it, each new."""

    def __init__(self) -> None:
        self._task = registry.load("heart_disease")
        self._config = composed(PLAN)
        tables = self._task.public_sites(data_root())
        self._cohorts = cohorts_of(self._task, tables, split_plan(self._config))

    def new(self) -> Study:
        return build_study(self._config, self._task, declared_patients(self._cohorts))

    def run(self, study: Study, *listeners: Listener) -> Outcome:
        return InProcessFederation(self._cohorts).run(study, self._task, Listeners(*listeners))


def tracker(uri: str, folder: Path) -> MlflowTracker:
    signer = Identity.generate()
    return MlflowTracker(uri, EXPERIMENT, undelivered=folder, patience=120.0, signer=signer)


def untracked(studies: Studies) -> float:
    clock = _Clock()
    studies.run(studies.new(), clock)
    return clock.seconds


def late(studies: Studies, server: MlflowServer, folder: Path) -> tuple[float, str]:
    """Seconds of the rounds, and the study, which has arrived."""
    with SlowServer(server.url) as slow:
        tracked, study = tracker(slow.url, folder), studies.new()
        tracked.begin(study, {}, "bench")
        clock = _Clock(lambda: setattr(slow, "seconds", LATE))
        outcome = studies.run(study, clock, tracked)
        assert outcome.status == "finished"
        assert tracked.settle(600).missing == ()
    return clock.seconds, study.digest


def killed(studies: Studies, server: MlflowServer, folder: Path) -> tuple[float, str]:
    tracked, study = tracker(server.url, folder), studies.new()
    tracked.begin(study, {}, "bench")
    clock = _Clock(server.stop)
    studies.run(study, clock, tracked)
    server.start()
    server.wait()
    assert tracked.settle(600).missing == ()
    return clock.seconds, study.digest


def at_the_end(studies: Studies, server: MlflowServer, folder: Path) -> float:
    """Seconds from the end of the rounds until MLflow has card, figures and version."""
    tracked, study, clock = tracker(server.url, folder), studies.new(), _Clock()
    tracked.begin(study, {}, "bench")
    studies.run(study, clock, tracked)
    assert tracked.settle(600).missing == ()
    return time.perf_counter() - clock.times[-1]


def missing_rounds(server: MlflowServer, digests: list[str]) -> int:
    client, found = client_of(server.url), 0
    for digest in digests:
        where = f"tags.`wardround.study` = '{digest}'"
        (run,) = client.search_runs([experiment_id(client, EXPERIMENT)], filter_string=where)
        found += len(client.get_metric_history(run.info.run_id, "system/seconds"))
    return ROUNDS * len(digests) - found


def open_runs(server: MlflowServer) -> int:
    client = client_of(server.url)
    there = [experiment_id(client, EXPERIMENT)]
    return len(client.search_runs(there, filter_string="attributes.status = 'RUNNING'"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--blocks", type=int, default=3)
    blocks = parser.parse_args().blocks
    studies, digests = Studies(), list[str]()
    taken: dict[str, list[float]] = {"untracked": [], "late": [], "killed": [], "end": []}
    with tempfile.TemporaryDirectory(prefix="wardround-bench-") as folder:
        waiting = Path(folder) / "undelivered"
        with MlflowServer(Path(folder) / "mlflow") as server:
            client_of(server.url)
            untracked(studies)
            for _ in range(blocks):
                taken["untracked"].append(untracked(studies))
                for name, how in (("late", late), ("killed", killed)):
                    seconds, digest = how(studies, server, waiting)
                    taken[name].append(seconds)
                    digests.append(digest)
                taken["end"].append(at_the_end(studies, server, waiting))
            lacking, left = missing_rounds(server, digests), open_runs(server)
    plain = min(taken["untracked"])
    held = [
        figure(
            f"rounds with MLflow {name}",
            min(taken[name]) / plain - 1,
            "of the untracked rounds",
            0.05,
            seconds=round(min(taken[name]), 2),
            untracked=round(plain, 2),
            rounds=ROUNDS,
            load=load(),
        )
        for name in ("late", "killed")
    ]
    held += [
        figure("rounds that never arrived in MLflow", lacking, "", 0, studies=len(digests)),
        figure("runs that stay open in MLflow", left, "", 0),
        figure(
            "card, figures and registration",
            statistics.median(taken["end"]),
            "s of a study's time",
            10.0,
            load=load(),
        ),
    ]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
