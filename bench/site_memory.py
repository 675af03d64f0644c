"""What a hospital's daemon holds while it waits for a study, and once it has taken part in one.

    python bench/site_memory.py

`wardround coordinator start` and four `wardround-site start`, processes of their own over TLS.
Idle: the resident set (VmRSS) of each daemon with all that it has started, ten seconds after all
are connected; pages that they share count for each. Then a study of 14 parameters with masks runs,
which makes each daemon load PyTorch, and the same is read again.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import psutil

from support.deployment import Deployment
from support.figure import figure, load
from support.tasks import NoOp, install
from tasks import registry

BAR = 300.0
STUDY = (
    "privacy=none",
    "privacy.sampling_rate=1",
    "local_steps=1",
    "evaluation=off",
    "rounds=2",
)


def held(pid: int) -> float:
    """MB (10^6 bytes) of a process and its descendants."""
    process = psutil.Process(pid)
    return sum(one.memory_info().rss for one in (process, *process.children(recursive=True))) / 1e6


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="wardround-bench-") as name:
        folder = Path(name)
        env = install(folder)
        with Deployment(folder / "ours", registry.load(NoOp.name), env) as ours:
            sites = ours.task.public_sites(None)
            time.sleep(10)
            idle = [held(pid) for pid in map(ours.program, sites)]
            ours.run(*STUDY)
            after = [held(pid) for pid in map(ours.program, sites)]
    holds = figure(
        "site_idle",
        max(idle),
        "MB",
        BAR,
        least_of_four=round(min(idle)),
        after_a_study=round(max(after)),
        load=load(),
    )
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
