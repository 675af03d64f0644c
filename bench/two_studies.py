"""What a study's round costs while another study trains for a minute at one of its sites.

    python bench/two_studies.py [--seconds 60] [--shared]

A coordinator and four daemons, processes of their own. One site has so many patients that a round
of the long study takes it the given seconds; at the others it takes none. The rounds of a quick
study on the same four sites are timed alone, and again while the long one trains; seconds are from
one round's report to the next, by the coordinator's clock, and the median counts.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from client.daemon import status
from launch.config.compose import load as load_config
from launch.config.compose import plain
from launch.studies.study_builder import build_study
from support.deployment import Deployment, tails
from support.figure import figure, load
from support.tasks import LARGE, Unequal, install
from tasks import registry

WORDS = ("privacy=none", "evaluation=off", "federation.masked=true")
QUICK = ("privacy.sampling_rate=0.01", "local_steps=1", "rounds=61")
PROBE = 200
"""Local steps by which the time of one is measured."""


class OwnMachine(Deployment):
    """Where the large hospital has the first core to itself."""

    def through(self, name: str) -> tuple[str, ...]:
        first, *rest = sorted(os.sched_getaffinity(0))
        cores = [first] if name == LARGE or not rest else rest
        return ("taskset", "--cpu-list", ",".join(map(str, cores)))


def long_study(steps: int, rounds: int) -> tuple[str, ...]:
    return (*WORDS, "privacy.sampling_rate=1", f"local_steps={steps}", f"rounds={rounds}")


def measure_beside(deployment: Deployment, steps: int) -> tuple[list[float], float]:
    """Seconds of the quick study's rounds while the long one trains, and how long that trained.
    Raises RuntimeError where it did not train for the whole time."""
    task, remote = deployment.task, deployment.remote
    words = [f"task.name={task.name}", "tracking=off", "federation=deployment"]
    config = load_config([*words, *long_study(steps, 1)])
    study = build_study(config, task, remote.patients())
    remote.submit(study, plain(config))
    while not trains(deployment):
        time.sleep(0.05)
    began = time.perf_counter()
    beside = deployment.run(*WORDS, *QUICK)
    if not trains(deployment):
        raise RuntimeError("The long study did not train for long enough.")
    last = [event["type"] for event in remote.events(study.digest)][-1]
    if last != "finished":
        raise RuntimeError(f"The long study {last}.\n{tails(deployment.folder)}")
    return beside, time.perf_counter() - began


def median(seconds: list[float]) -> float:
    return round(statistics.median(seconds), 4)


def trains(deployment: Deployment) -> bool:
    """Whether the large site computes, by its own status, which it writes every second."""
    now = status.read(deployment.folder / LARGE / "state")
    return now is not None and now.phase == "training"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="that a round trains")
    parser.add_argument("--shared", action="store_true", help="all processes on all cores")
    arguments = parser.parse_args()
    seconds, made = arguments.seconds, Deployment if arguments.shared else OwnMachine
    with tempfile.TemporaryDirectory() as folder:
        env = install(Path(folder), Unequal)
        task = registry.load(Unequal.name)
        with made(Path(folder) / "federation", task, env) as deployment:
            probe = statistics.median(deployment.run(*long_study(PROBE, 4)))
            steps = int(PROBE * seconds * 1.1 / probe)
            alone = deployment.run(*WORDS, *QUICK)
            beside, trained = measure_beside(deployment, steps)
    ratio = median(beside) / median(alone)
    holds = figure(
        "two studies: a round beside", ratio, "x", 1.5, load=load(), alone_s=median(alone),
        beside_s=median(beside), trained_s=round(trained, 1), shared=arguments.shared,
    )  # fmt: skip
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
