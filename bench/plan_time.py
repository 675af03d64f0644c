"""How well `wardround plan` says how long a study takes.

    python bench/plan_time.py [TASK ...]

Planned: the seconds that `plan` prints for a study with all sites in this process. Taken: the same
study's wall clock, from its proposal to its last sum. A figure is the larger of the two over the
other. Both depend on what else this machine does meanwhile, and the plan is made just before. What
the first study of a process pays once (loading code) is paid before.
"""

from __future__ import annotations

import argparse
import sys
import time

from launch.config.compose import load as configured
from launch.federations.inprocess import InProcessFederation, cohorts_of
from launch.studies.plans.plan_time import seconds
from launch.studies.public_data import data_root
from launch.studies.run import declared_patients, split_plan
from launch.studies.study_builder import build_study
from server.rounds.listener import Listeners
from support.figure import figure, load
from tasks import registry

TASKS = {
    "breast_cancer": ("rounds=100",),
    "digits": ("rounds=40",),
    "findings": ("rounds=10",),
}
"""A task of each size of model, and its study's overrides."""
APART = 1.5


def apart(name: str) -> bool:
    config = configured([f"task={name}", "federation=inprocess", "tracking=off", *TASKS[name]])
    task = registry.load(name, config.task.options)
    cohorts = cohorts_of(task, task.public_sites(data_root()), split_plan(config))
    study = build_study(config, task, declared_patients(cohorts))
    planned = seconds(study, task, simulated=True, line=1e6)
    started = time.perf_counter()
    InProcessFederation(cohorts).run(study, task, Listeners())
    taken = time.perf_counter() - started
    return figure(
        f"plan_time {name}: planned and taken seconds, the larger over the other",
        max(planned / taken, taken / planned),
        "times",
        APART,
        planned=round(planned, 2),
        taken=round(taken, 2),
        load=load(),
    )


def main() -> int:
    """Exit status 1 where a figure misses its bar."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"of {', '.join(TASKS)}; all")
    given = parser.parse_args()
    if unknown := set(given.tasks) - set(TASKS):
        parser.error(f"no study of {', '.join(sorted(unknown))} is measured here")
    held = [apart(name) for name in given.tasks or TASKS]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
