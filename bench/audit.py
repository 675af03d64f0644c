"""The privacy audit: no false alarm on honest code, estimates near epsilon, and every fault seen.

    python bench/audit.py [--seeds N] [--runs N] [--fault-seeds N]

Twenty audits of linear studies of two attempts, half in mode distributed, half in mode local. A
claim that is broken by honest code would be a false alarm, or a fault of wardround. Then each fault
of `support/audit_faults.py` in the training code, from several seeds: the attack that is said to
see it has to show that the claim is broken.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import pytest

from client.privacy_audit.audit import audit
from client.privacy_audit.finding import Finding
from client.privacy_audit.neighbours import Attack
from client.privacy_audit.released_sums import Part
from launch.config import compose
from launch.federations.inprocess import cohorts_of
from launch.studies.baselines import pool
from launch.studies.public_data import data_root
from launch.studies.run import declared_patients, split_plan
from launch.studies.study_builder import build_study
from support.audit_faults import LOCAL, SEEN, Fault, found
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


def caught(fault: Fault, attack: Attack, words: tuple[str, ...], part: Part, seed: int) -> float:
    """The lower bound over the stated epsilon, of code with the fault."""
    with pytest.MonkeyPatch.context() as patch:
        fault(patch)
        seen = found(attack, (*words, f"seed={seed}"), part, seed=seed)
    return min(seen.bound, 1e3 * seen.epsilon) / seen.epsilon


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--runs", type=int, default=1500)
    parser.add_argument("--fault-seeds", type=int, default=3)
    words = parser.parse_args()
    started = time.perf_counter()
    honest = [
        finding
        for seed in range(words.seeds)
        for finding in audited(MODES[seed % len(MODES)], seed, words.runs)
    ]
    seconds = time.perf_counter() - started
    highest = max(finding.bound / finding.epsilon for finding in honest)
    alarms = sum(not finding.holds for finding in honest)
    holds = [
        figure("false alarms over all seeds and attacks", alarms, "audits", 0, audits=len(honest)),
        figure("highest lower bound over epsilon", highest, "times", 1.0, seeds=words.seeds),
        figure("audits of all seeds", seconds, "s", 600.0, load=load()),
    ]
    for weights in ("honest", "saturating"):
        ratios = [
            finding.estimate / finding.epsilon
            for finding in honest
            if (finding.audit, finding.part, finding.weights) == ("many runs", "training", weights)
        ]
        median = statistics.median(ratios)
        name = f"estimate over epsilon, many runs, {weights} weights, median"
        holds += [
            figure(name, median, "times", HIGH, lowest=min(ratios), highest=max(ratios)),
            figure(f"{name} (least)", median, "times", LOW, least=True),
        ]
    for fault, attack, study, part in SEEN:
        bounds = [caught(fault, attack, study, part, seed) for seed in range(words.fault_seeds)]
        name = f"{fault.__name__}, mode {'local' if study == LOCAL else 'distributed'}, {part}"
        holds.append(
            figure(
                f"{name}: lower bound over the stated epsilon, median",
                statistics.median(bounds),
                "times",
                1.0,
                least=True,
                seeds=len(bounds),
                lowest=min(bounds),
            )
        )
    return 0 if all(holds) else 1


if __name__ == "__main__":
    sys.exit(main())
