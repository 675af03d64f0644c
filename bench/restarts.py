"""A coordinator that is killed in the middle of a study, again and again.

    python bench/restarts.py [--times 20]

A coordinator and four sites of breast_cancer as processes of their own. Studies of 40 rounds in
mode none: first three that are left alone, for their time and weights. Then, in round 20 of each,
at a random moment, the coordinator is killed (kill -9) and started again at once.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from support.deployment import COORDINATOR, Deployment, tails
from support.figure import figure, load
from support.studies import Studies
from tasks import registry

ROUNDS, KILLED = 40, 20
ALONE = 3


class Killer:
    """Ends the coordinator in round KILLED, and starts it again."""

    def __init__(self, deployment: Deployment, drawn: random.Random, round_seconds: float) -> None:
        self._deployment, self._delay = deployment, drawn.uniform(0, round_seconds)
        self.killed = False

    def __call__(self, event: Mapping[str, Any]) -> None:
        if not self.killed and event["type"] == "round" and event["round"] >= KILLED - 1:
            self.killed = True
            time.sleep(self._delay)
            self._deployment.kill(COORDINATOR)
            self._deployment.start(COORDINATOR)


def timed(studies: Studies, title: str, told: Killer | None = None) -> tuple[float, str | None]:
    """Seconds of a study, and the digest of its weights."""
    began = time.perf_counter()
    found = studies.run(title, told=told or (lambda event: None))
    return time.perf_counter() - began, found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--times", type=int, default=20)
    times, drawn = parser.parse_args().times, random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        task = registry.load("breast_cancer")
        with Deployment(Path(folder) / "federation", task, {}) as deployment:
            studies = Studies(deployment, "privacy=none", f"rounds={ROUNDS}")
            alone = [timed(studies, f"Alone {n}") for n in range(ALONE)]
            usual, expected = statistics.median(seconds for seconds, _ in alone), alone[0][1]
            wrong, extra, most = 0, list[float](), 0
            for number in range(times):
                lost = studies.attempts_lost
                killer = Killer(deployment, drawn, usual / ROUNDS)
                seconds, found = timed(studies, f"Killed {number}", killer)
                wrong += not killer.killed or found is None or found != expected
                extra.append(seconds - usual)
                most = max(most, studies.attempts_lost - lost)
                print(f"\r{number + 1} of {times}", end="", file=sys.stderr)
            print(*studies.unfinished, tails(deployment.folder) if wrong else "", file=sys.stderr)
    holds = [
        figure("restarts: studies with other weights, or none", wrong, f"of {times}", 0),
        figure("restarts: attempts lost by one", most, "", 1),
        figure("restarts: extra time of one", max(extra), "s", 15.0,
               median_s=round(statistics.median(extra), 1), study_s=round(usual, 1), load=load()),
    ]  # fmt: skip
    return 0 if all(holds) else 1


if __name__ == "__main__":
    sys.exit(main())
