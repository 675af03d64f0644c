"""Figures of several labels of which each has a histogram as a binary outcome has it.

Macro: the mean over the labels. Micro: of the sum of their histograms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from protocol.outcomes import binary
from protocol.outcomes.base import Labels, Scores
from protocol.outcomes.estimates import Counts, Estimate, Metric, estimates, project

_FINE = 4096
OF_EACH = {name: binary.METRICS[name] for name in ("auc", "average_precision")}
SUMMARIES = {
    f"{over}_{name}": replace(metric, label=f"{metric.label}, {said}", short=short)
    for over, said in (("macro", "mean over labels"), ("micro", "labels together"))
    for name, metric in OF_EACH.items()
    for short in [metric.short if over == "macro" else ""]
}


def of_labels(labels: int) -> dict[str, Metric]:
    """The figures of each label, by name."""
    return {
        f"{name}_{k}": replace(metric, label=f"{metric.label}, label {k}", short="")
        for name, metric in OF_EACH.items()
        for k in range(labels)
    }


def pooled(
    by_label: Counts, noise_variance: float, seed: int, *, together: int
) -> dict[str, Estimate]:
    """(labels, 2, B) opened histograms -> all of these figures, with intervals. together: of how
    many of a patient's counts chance moves as one."""
    of_label = [
        estimates(part, OF_EACH, noise_variance, seed + k) for k, part in enumerate(by_label)
    ]
    # What chance of patients alone does, without the noise.
    of_patients = [
        estimates(project(part), OF_EACH, 0.0, seed + k) for k, part in enumerate(by_label)
    ]
    found: dict[str, Estimate] = {}
    for name in OF_EACH:
        parts = [
            (both[name], bare[name])
            for both, bare in zip(of_label, of_patients, strict=True)
            if name in both and name in bare
        ]
        if len(parts) == len(by_label):
            found[f"macro_{name}"] = _mean(parts)
    summed, of_sum = by_label.sum(axis=0), noise_variance * len(by_label)
    micro = estimates(summed, OF_EACH, of_sum, seed, together=together)
    found |= {f"micro_{name}": of for name, of in micro.items()}
    for k, of_one in enumerate(of_label):
        found |= {f"{name}_{k}": of for name, of in of_one.items()}
    return found


def macro(scores: Scores, own: Labels, metric: Metric) -> float:
    """(N, labels) scores, and (N, labels) 1 or 0 of each, NaN where missing -> the mean over labels
    of a figure, without any noise."""
    each = []
    for score, label in zip(scores.T, own.T, strict=True):
        known = ~np.isnan(label)
        counts = binary.histogram(score[known], label[known], _FINE).astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            each.append(float(metric.of(counts)))
    return float(np.mean(each))


def _mean(parts: list[tuple[Estimate, Estimate]]) -> Estimate:
    """The mean of one figure over the labels, each with and without noise in its interval. The
    same patients are in every label's, so chance moves all of them together, at worst; the noise
    of each is its own."""
    value = float(np.mean([all_.value for all_, _ in parts]))

    def reach(ends: list[tuple[float, float]]) -> float:
        patients = np.array([bare for _, bare in ends])
        noise = np.sqrt(np.maximum(np.array([all_ for all_, _ in ends]) ** 2 - patients**2, 0.0))
        return float(np.hypot(patients.mean(), np.sqrt((noise**2).sum()) / len(ends)))

    below = reach([(a.value - a.low, b.value - b.low) for a, b in parts])
    above = reach([(a.high - a.value, b.high - b.value) for a, b in parts])
    return Estimate(value, max(0.0, value - below), min(1.0, value + above))


def by_name(names: Mapping[str, Metric], found: Mapping[str, Estimate]) -> dict[str, Estimate]:
    """Those found, in the order of tables."""
    return {name: found[name] for name in names if name in found}
