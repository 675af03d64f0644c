"""A hospital that is not there, and a coordinator that is started again while it is not.

    python bench/absent.py [--grace 10]

A coordinator and three of four daemons of breast_cancer as processes of their own, in mode local.
First: from the submission of a study to its first round, with a grace that the study states. Then:
from the first answer of the control API of a coordinator that was started again to the next round
of the same study. The sites come back by themselves.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from launch.config.compose import load as load_config
from launch.config.compose import plain
from launch.studies.study_builder import build_study
from protocol.errors import Code, WardroundError
from support.deployment import COORDINATOR, Deployment, tails, until_online
from support.figure import figure, load
from tasks import registry

ABSENT = "west"
WORDS = (
    "privacy=local", "privacy.epsilon=5", "privacy.delta=1e-3", "local_steps=1", "tracking=off",
    "federation=deployment", "rounds=500",
)  # fmt: skip


def until_round(deployment: Deployment, study: str, number: int) -> float:
    """When the study's round was done, by this process's clock. Raises RuntimeError where it ends
    before that."""
    while True:
        try:
            row = deployment.remote.study(study)
            if int(row["round"]) >= number:
                return time.perf_counter()
            if row["state"] in ("failed", "cancelled", "finished"):
                raise RuntimeError(f"The study {row['state']}.\n{tails(deployment.folder)}")
        except WardroundError as error:
            if error.code is not Code.UNREACHABLE:
                raise
        time.sleep(0.05)


def until_answered(deployment: Deployment) -> float:
    """When the control API answers again, by this process's clock."""
    while True:
        try:
            deployment.remote.federation()
            return time.perf_counter()
        except WardroundError as error:
            if error.code is not Code.UNREACHABLE:
                raise
        time.sleep(0.05)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--grace", type=float, default=10.0, help="seconds")
    grace = parser.parse_args().grace
    task = registry.load("breast_cancer")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        deployment = stack.enter_context(Deployment(folder / "federation", task, {}))
        deployment.stop(ABSENT)
        until_online(deployment.remote, 3, deployment.folder)
        config = load_config([f"task={task.name}", f"aggregation.grace={grace}", *WORDS])
        study = build_study(config, task, deployment.remote.patients())
        submitted = time.perf_counter()
        deployment.remote.submit(study, plain(config))
        first = until_round(deployment, study.digest, 1) - submitted
        deployment.stop(COORDINATOR)
        deployment.start(COORDINATOR)
        answered = until_answered(deployment)
        done = int(deployment.remote.study(study.digest)["round"])
        again = until_round(deployment, study.digest, done + 1) - answered
        deployment.remote.cancel(study.digest, wait=20)
    holds = [
        figure("absent: 1 of 4, to the first round", first, "s", grace + 2, load=load()),
        figure("absent: 1 of 4, a coordinator started again", again, "s", 5.0, load=load()),
    ]
    return 0 if all(holds) else 1


if __name__ == "__main__":
    sys.exit(main())
