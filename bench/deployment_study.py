"""How long a whole study takes on a real deployment: heart disease, 150 rounds, four hospitals.

    python bench/deployment_study.py

`wardround coordinator start` and four `wardround-site start` on this machine: processes of their
own, TLS, node authentication, secure aggregation, ledger and audit log on disk. Seconds are wall
clock, from submitting the study to its end, without the start of the processes.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from protocol.errors import WardroundError
from support.deployment import Deployment
from support.figure import figure, load
from tasks import registry

ROUNDS = 150
STUDY = (
    "privacy=distributed",
    "privacy.epsilon=1",
    "privacy.delta=1e-3",
    "privacy.sampling_rate=0.2",
    f"rounds={ROUNDS}",
)


def main() -> int:
    task = registry.load("heart_disease")
    with (
        tempfile.TemporaryDirectory(prefix="wardround-bench-") as folder,
        Deployment(Path(folder) / "ours", task, {}) as deployment,
    ):
        started = time.monotonic()
        taken = deployment.run(*STUDY)
        seconds = time.monotonic() - started
    held = figure(
        "deployment_study_150_rounds",
        seconds,
        "s",
        150.0,
        rounds=len(taken) + 1,
        seconds_per_round=round(seconds / ROUNDS, 4),
        median_round=round(statistics.median(taken), 4),
        load=load(),
    )
    return 0 if held else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except WardroundError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_status)
