"""The privacy audit on honest code: no false alarm, and estimates near the epsilon that is stated.

    python bench/audit.py [--seeds N] [--runs N]

Twenty audits of linear studies of two attempts, half in mode distributed, half in mode local. A
claim that is broken by honest code would be a false alarm, or a fault of wardround.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

from client.privacy_audit.audit import audit
from client.privacy_audit.finding import Finding
from launch.config import compose
from launch.federations.inprocess import cohorts_of
from launch.studies.baselines import pool
from launch.studies.public_data import data_root
from launch.studies.run import declared_patients, split_plan
from launch.studies.study_builder import build_study
from support.figure import figure, load
from tasks import registry

LOW, HIGH = 0.6, 1.25
"""Of epsilon, for the median estimate."""
MODES = ("distributed", "local")


def audited(mode: str, seed: int, runs: int) -> tuple[Finding, ...]:
    config = compose.load(
        [
            "task=breast_cancer",
            f"privacy={mode}",
            "privacy.epsilon=3",
            "privacy.sampling_rate=1",
            "rounds=1",
            f"seed={seed}",
            "tracking=off",
        ]
    )
    task = registry.load(config.task.name, config.task.options)
    cohorts = cohorts_of(task, task.public_sites(data_root()), split_plan(config))
    study = build_study(config, task, declared_patients(cohorts))
    return audit(study, task, pool(cohorts), runs, 900, lambda stage, done, of: None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--runs", type=int, default=1500)
    words = parser.parse_args()
    started = time.perf_counter()
    found = [
        finding
        for seed in range(words.seeds)
        for finding in audited(MODES[seed % len(MODES)], seed, words.runs)
    ]
    seconds = time.perf_counter() - started
    highest = max(finding.bound / finding.epsilon for finding in found)
    alarms = sum(not finding.holds for finding in found)
    holds = [
        figure("false alarms over all seeds and attacks", alarms, "audits", 0, audits=len(found)),
        figure("highest lower bound over epsilon", highest, "times", 1.0, seeds=words.seeds),
        figure("audits of all seeds", seconds, "s", 600.0, load=load()),
    ]
    for weights in ("honest", "saturating"):
        ratios = [
            finding.estimate / finding.epsilon
            for finding in found
            if (finding.audit, finding.part, finding.weights) == ("many runs", "training", weights)
        ]
        median = statistics.median(ratios)
        name = f"estimate over epsilon, many runs, {weights} weights, median"
        holds += [
            figure(name, median, "times", HIGH, lowest=min(ratios), highest=max(ratios)),
            figure(f"{name} (least)", median, "times", LOW, least=True),
        ]
    return 0 if all(holds) else 1


if __name__ == "__main__":
    sys.exit(main())
