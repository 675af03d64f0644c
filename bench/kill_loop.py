"""kill -9 at every named point of the protocol, many times, during real deployments.

    python bench/kill_loop.py [--times 20] [--rounds 3]

Four daemons over TLS; one is killed at the point, restarted at once, and the study must finish
with every round.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from protocol.errors import WardroundError
from protocol.study.study import Study
from support.figure import figure, load
from tests.client.daemon_federation import Wards, renamed
from tests.client.kill_points import POINTS

VICTIM = "west"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts = loop(Path(folder), arguments.times, arguments.rounds)
    kills, lost = counts["kills"], counts["attempts_lost"]
    holds = [
        figure("kill loop: epsilons under-counted", counts["under_counted"], "", 0, kills=kills),
        figure("kill loop: ledgers corrupt", counts["corrupt"], "", 0, kills=kills),
        figure("kill loop: rounds lost", counts["rounds_lost"], "", 0, attempts=lost, load=load()),
        figure("kill loop: points not reached", arguments.times * len(POINTS) - kills, "", 0),
    ]
    return 0 if all(holds) else 1


def loop(folder: Path, times: int, rounds: int) -> dict[str, int]:
    counts = {"kills": 0, "under_counted": 0, "corrupt": 0, "rounds_lost": 0, "attempts_lost": 0}
    wards = Wards(folder)
    rest = [wards.daemon(site) for site in wards.sites if site != VICTIM]
    try:
        template = wards.study(rounds=rounds)
        for number in range(times * len(POINTS)):
            point = list(POINTS)[number % len(POINTS)]
            one_kill(wards, template, number, point, counts)
            if point == list(POINTS)[-1]:
                for site in wards.sites:
                    check(wards, site, counts)
            told = f"{number + 1} of {times * len(POINTS)}, {point}: {counts}"
            print(f"\r{told:170}", end="", file=sys.stderr, flush=True)
    finally:
        for daemon in rest:
            daemon.stop()
        wards.close()
    print(file=sys.stderr)
    return counts


def one_kill(
    wards: Wards, template: Study, number: int, point: str, counts: dict[str, int]
) -> None:
    """Kills once, restarts, and counts what went wrong."""
    study = renamed(template, number)
    killed = wards.daemon(VICTIM, point)
    wards.until_online()
    running = wards.run(study)
    counts["kills"] += killed.ended() == -signal.SIGKILL
    check(wards, VICTIM, counts)
    restarted = wards.daemon(VICTIM)
    try:
        running.outcome()
        counts["rounds_lost"] += study.optimisation.rounds - len(running.told.rounds)
    except WardroundError:
        counts["rounds_lost"] += study.optimisation.rounds - len(running.told.rounds)
    counts["attempts_lost"] += len(running.told.losses)
    wards.until_online()
    restarted.stop()


def check(wards: Wards, site: str, counts: dict[str, int]) -> None:
    try:
        wards.verify_books(site)
    except AssertionError:
        counts["under_counted"] += 1
    except WardroundError:
        counts["corrupt"] += 1


if __name__ == "__main__":
    sys.exit(main())
