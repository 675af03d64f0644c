"""How often the intervals that say for whom a model fails hold the truth.

    python bench/subgroups.py [--runs 2000] [--workers 1]

Opened sums are made here, vectorised and without processes: patients of four levels, of different
size, prevalence and separation, are scored from a seed and counted as sites count them; to every
cell comes the noise that the study's sites add up to at its epsilon. They are read by the code that
reads a study's (`protocol.metrics.subgroup_figures`). The truth is that of the populations from
which the patients are drawn. Counted are figures that are shown: a level below the least count
never is.
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor

import numpy as np
import numpy.typing as npt

from launch.config.compose import load
from launch.studies.study_builder import build_study
from protocol.metrics.subgroup_figures import SubgroupFigures, subgroup_figures
from protocol.outcomes.binary import Binary
from protocol.study.study import Study
from protocol.study.vector_layout import histogram_variance
from support.figure import figure
from tasks import registry

Floats = npt.NDArray[np.float64]
LEAST = 0.93
LEVELS = {"a": (60, 0.45, 0.9), "b": (120, 0.3, 1.3), "c": (400, 0.5, 1.6), "d": (900, 0.15, 1.1)}
"""Level -> patients, prevalence, and how far apart the mean log odds of both labels are."""
SETTINGS = {
    "privacy.epsilon=3": ("privacy.epsilon=3",),
    "privacy.epsilon=1": ("privacy.epsilon=1",),
    "privacy=local privacy.epsilon=3": ("privacy=local", "privacy.epsilon=3"),
    "privacy=none evaluation=noised": ("privacy=none", "evaluation=noised", "privacy.epsilon=3"),
    "privacy=none": ("privacy=none", "evaluation=noised", "privacy.epsilon=3"),
}
"""Modes and releases that a study offers -> overrides; the last one is exact."""
EXACT = "privacy=none"
_MANY = 200_000
"""Patients whose figures stand for a population's."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=1, help="processes")
    given = parser.parse_args()
    with ProcessPoolExecutor(given.workers) as workers:
        held = [holds for setting in SETTINGS for holds in _coverage(setting, given.runs, workers)]
    return 0 if all(held) else 1


def _study(setting: str) -> Study:
    values = ", ".join(LEVELS)
    config = load(
        [
            "task=heart_disease",
            *SETTINGS[setting],
            "privacy.delta=1e-4",
            f"evaluation.subgroups={{place: [{values}]}}",
        ]
    )
    if setting == EXACT:
        config.evaluation.release, config.privacy.epsilon = "exact", None
        config.evaluation.bins = 64
    sites = {f"site-{number}": 900 for number in range(4)}
    return build_study(config, registry.load("heart_disease"), sites)


def _scored(
    patients: int, prevalence: float, apart: float, generator: np.random.Generator
) -> tuple[Floats, Floats]:
    """Scores and labels: log odds are normal, their mean `apart` larger where the label is 1."""
    labels = (generator.random(patients) < prevalence).astype(np.float64)
    odds = generator.normal(size=patients) + apart * (labels - 0.5)
    return 1 / (1 + np.exp(-odds)), labels


def _truth(metrics: tuple[str, ...]) -> dict[str, dict[str, float]]:
    generator = np.random.default_rng(1)
    return {
        level: {m: Binary().figures_of(*_scored(_MANY, *of[1:], generator))[m] for m in metrics}
        for level, of in LEVELS.items()
    }


def _sums(study: Study, runs: int) -> tuple[Floats, float]:
    """(runs, cells of the section) opened counts, and the variance of each one's noise."""
    generator, bins, sites = np.random.default_rng(2), study.evaluation.bins, len(study.roster)
    parts = []
    for patients, prevalence, apart in LEVELS.values():
        scores, labels = _scored(runs * patients, prevalence, apart, generator)
        cell = (labels * bins + np.clip(np.floor(scores * bins), 0, bins - 1)).astype(np.int64)
        run = np.repeat(np.arange(runs), patients)
        cells = np.bincount(run * 2 * bins + cell, minlength=runs * 2 * bins)
        parts.append(cells.reshape(runs, 2 * bins))
    missing = np.zeros((runs, 2 * bins))
    everyone = np.sum(parts, axis=0)
    counts = np.concatenate([everyone, *parts, missing], axis=1).astype(np.float64)
    variance = histogram_variance(study, sites) * sites / study.evaluation.scale**2
    noise = generator.normal(0.0, np.sqrt(variance), counts.shape)
    return counts + noise, variance


def _coverage(setting: str, runs: int, workers: Executor) -> Iterator[bool]:
    started, study = time.perf_counter(), _study(setting)
    truth = _truth(study.outcome.compared)
    counts, variance = _sums(study, runs)
    held: dict[str, list[bool]] = {}
    figures = functools.partial(_figures, study, variance)
    for of in workers.map(figures, counts, chunksize=20):
        for name, one in _claims(of, truth):
            held.setdefault(name, []).append(one)
    about = {"runs": runs, "bins": study.evaluation.bins, "noise": round(float(variance**0.5), 2)}
    for name, seen in sorted(held.items()):
        yield figure(
            f"subgroup intervals, {setting}: {name}",
            float(np.mean(seen)),
            "share that hold the truth",
            LEAST,
            least=True,
            shown=len(seen),
            **about,
        )
    print(f"# {setting}: {time.perf_counter() - started:.0f} s", file=sys.stderr)


def _figures(study: Study, variance: float, opened: Floats) -> SubgroupFigures:
    (of,) = subgroup_figures(study, opened, variance)
    return of


def _claims(of: SubgroupFigures, truth: dict[str, dict[str, float]]) -> Iterator[tuple[str, bool]]:
    for level in of.levels:
        for metric in truth.get(level.level, {}):
            if metric in level.metrics:
                one = level.metrics[metric]
                inside = one.low <= truth[level.level][metric] <= one.high
                yield f"{metric} of {LEVELS[level.level][0]} patients", inside
    for two in of.differences:
        if two.level in truth and two.reference in truth:
            true = truth[two.level][two.metric] - truth[two.reference][two.metric]
            inside = two.difference.low <= true <= two.difference.high
            yield f"difference of {two.metric}", inside


if __name__ == "__main__":
    sys.exit(main())
