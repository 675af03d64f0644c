"""From the command to the first round, and to the help.

    python bench/start_up.py

Wall clock of new processes, medians of three. The first: `wardround run federation=inprocess` as it
comes (breast_cancer, mode distributed, 100 rounds), until it reports round 1: interpreter, imports,
configuration, calibrating the noise, proposing the study and one round. It is then stopped. The
others run to their end. Files are in the page cache, as for anyone's second run of the day.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from support.figure import figure, load

BIN = Path(sys.executable).parent
TIMES = 3
RUN = ("wardround", "run", "federation=inprocess", "tracking=off")


def to_first_round() -> float:
    """Seconds until a study of its own process has reported a round."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        with subprocess.Popen(
            [BIN / RUN[0], *RUN[1:], f"output={folder}"],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        ) as process:
            assert process.stderr is not None
            said = []
            for line in process.stderr:
                said.append(line)
                if line.startswith("round 1/"):
                    break
            seconds = time.perf_counter() - started
            process.kill()
        if not said or not said[-1].startswith("round 1/"):
            raise SystemExit(f"No round was reported:\n{''.join(said)}")
        return seconds


def to_end(command: Sequence[str]) -> float:
    started = time.perf_counter()
    subprocess.run(
        [BIN / command[0], *command[1:]], check=True, stdout=subprocess.DEVNULL, env=os.environ
    )
    return time.perf_counter() - started


def median(measure: Callable[[], float]) -> float:
    return statistics.median(measure() for _ in range(TIMES))


def main() -> int:
    to_end(("wardround", "--help"))
    holds = [
        figure(
            "start_up: wardround run federation=inprocess, to the first round",
            median(to_first_round),
            "s",
            9.0,
            load=load(),
        )
    ]
    for program in ("wardround", "wardround-site"):
        holds.append(
            figure(
                f"start_up: {program} --help",
                median(partial(to_end, (program, "--help"))),
                "s",
                1.0,
                load=load(),
            )
        )
    return 0 if all(holds) else 1


if __name__ == "__main__":
    sys.exit(main())
