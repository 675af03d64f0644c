"""A sweep as a data scientist types it: 40 heart disease studies of 100 rounds on this machine.

    python bench/sweep.py [--jobs N]

Four epsilons and ten seeds, each study with its own calibration, 100 rounds, evaluation and result,
in a fresh process of `wardround run -m`: Python's start, imports and workers are in the figure.
Untracked: what MLflow takes beside it is MLflow's.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from launch.studies.public_data import data_root
from support.figure import figure, load

BAR = 180.0
WORDS = (
    "task=heart_disease",
    "privacy.epsilon=0.3,1,3,10",
    "seed=range(10)",
    "rounds=100",
    "tracking=off",
)
STUDIES = 40


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=0, help="processes; 0: one a core")
    jobs = parser.parse_args().jobs
    script = Path(sys.executable).with_name("wardround")
    with tempfile.TemporaryDirectory() as folder:
        words: list[str | Path] = [
            script,
            "run",
            "-m",
            "-j",
            str(jobs),
            "--json",
            *WORDS,
            f"output={folder}",
        ]
        environment = {**os.environ, "WARDROUND_DATA": str(data_root())}
        before, started = load(), time.perf_counter()
        done = subprocess.run(words, env=environment, stdout=subprocess.PIPE, check=True)
        seconds = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = json.loads(done.stdout)
    if len(found["runs"]) != STUDIES or any(run["error"] for run in found["runs"]):
        print("not every study of the sweep finished", file=sys.stderr)
        return 1
    curve = {
        group["values"]["privacy.epsilon"]: round(group["mean"]["auc"], 4)
        for group in found["groups"]
    }
    holds = figure(
        "sweep_of_40_heart_studies",
        seconds,
        "s",
        BAR,
        cores=os.cpu_count() or 1,
        load_before=before,
        auc_by_epsilon=str(curve),
        cpu_seconds=round(used.ru_utime + used.ru_stime, 1),
    )
    return int(not holds)


if __name__ == "__main__":
    sys.exit(main())
