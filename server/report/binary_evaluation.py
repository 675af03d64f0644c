"""What an opened score histogram says of a task with two outcomes: curves, calibration, thresholds.

All of it is post-processing of sums that the study has opened already, and costs no privacy. Noised
counts are first projected to the nearest that are not negative (`estimates.project`).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from protocol.outcomes.estimates import Counts, Values, project, shown
from server.outcome import OpenedScores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GROUPS = 10
_THRESHOLDS = np.arange(1, 10) / 10
_NORMAL_95 = 1.96
_HEADINGS = (
    "threshold",
    "sensitivity",
    "specificity",
    "positive predictive value",
    "negative predictive value",
    "share called positive",
)


@dataclass(frozen=True)
class CalibrationGroup:
    """Patients of similar score: how many, their mean score, and their observed share of label 1
    with its interval (95%, of patients and noise)."""

    patients: float
    score: float
    observed: float
    low: float
    high: float


@dataclass(frozen=True)
class Threshold:
    """What calling every patient at or above `threshold` positive amounts to; NaN where there is
    nobody to tell it of."""

    threshold: float
    sensitivity: float
    specificity: float
    positive_value: float
    negative_value: float
    called: float


def counts_of(opened: OpenedScores) -> Counts:
    """(2, B) counts of label 0 and 1 by score bin, none negative."""
    return project(np.array(opened.counts, dtype=np.float64).reshape(2, -1))


def roc(counts: Counts) -> tuple[Values, Values]:
    """(2, B) -> (B + 1,) shares of label 0 and of label 1 called positive, from no patient to all:
    false alarms and sensitivity (Fawcett 2006, Algorithm 1)."""
    called = np.cumsum(counts[:, ::-1], axis=1) / np.maximum(counts.sum(axis=1), 1e-12)[:, None]
    start = np.zeros(1)
    return np.concatenate([start, called[0]]), np.concatenate([start, called[1]])


def precision_recall(counts: Counts) -> tuple[Values, Values]:
    """(2, B) -> recall and precision at each threshold at which somebody is called positive."""
    called = np.cumsum(counts[:, ::-1], axis=1)
    everybody = called.sum(axis=0)
    known = everybody > 0
    recall = called[1] / max(float(counts[1].sum()), 1e-12)
    return recall[known], called[1][known] / everybody[known]


def calibration(opened: OpenedScores) -> list[CalibrationGroup]:
    """At most ten groups of neighbouring bins, those without patients left out.

    The interval: that of Agresti & Coull 1998 (two of each label added), its binomial variance
    plus, by the delta method, that of the noise on the group's k bins, k v (p^2 + (1 - p)^2) / n^2.
    """
    counts = counts_of(opened)
    bins = counts.shape[1]
    middle = (np.arange(bins) + 0.5) / bins
    groups = []
    for at in np.array_split(np.arange(bins), min(_GROUPS, bins)):
        patients = float(counts[:, at].sum())
        if patients < 1:
            continue
        share = float(counts[1, at].sum()) / patients
        centre = (float(counts[1, at].sum()) + 2) / (patients + 4)
        noise = len(at) * opened.variance * (centre**2 + (1 - centre) ** 2) / patients**2
        half = _NORMAL_95 * float(np.sqrt(centre * (1 - centre) / (patients + 4) + noise))
        score = float((counts[:, at].sum(axis=0) * middle[at]).sum() / patients)
        low, high = max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))
        groups.append(CalibrationGroup(patients, score, share, low, high))
    return groups


def thresholds(counts: Counts) -> Iterator[Threshold]:
    """(2, B) -> what each of the bins' edges nearest to 0.1, 0.2, ... amounts to."""
    bins = counts.shape[1]
    for edge in np.unique(np.round(_THRESHOLDS * bins).astype(int)):
        negative, positive = counts[:, :edge].sum(axis=1), counts[:, edge:].sum(axis=1)
        yield Threshold(
            float(edge / bins),
            sensitivity=_share(positive[1], counts[1].sum()),
            specificity=_share(negative[0], counts[0].sum()),
            positive_value=_share(positive[1], positive.sum()),
            negative_value=_share(negative[0], negative.sum()),
            called=_share(positive.sum(), counts.sum()),
        )


def threshold_table(counts: Counts) -> bytes:
    """`thresholds` as CSV, which MLflow shows as a table."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_HEADINGS)
    for row in thresholds(counts):
        writer.writerow([f"{value:.3f}" for value in _cells(row)])
    return text.getvalue().encode()


def markdown(opened: OpenedScores) -> str:
    """Number of patients, calibration and thresholds, as tables of the model card."""
    counts = counts_of(opened)
    about = "about " if opened.variance else ""
    lines = [
        f"Scored on {about}{counts.sum():,.0f} patients, {about}{counts[1].sum():,.0f} of them "
        "with label 1.",
        "",
        "| scores | patients | mean score | observed share | 95% interval |",
        "|---|---|---|---|---|",
        *(
            f"| group {number} | {about}{group.patients:,.0f} | {group.score:.3f} | "
            f"**{group.observed:.3f}** | {group.low:.3f} to {group.high:.3f} |"
            for number, group in enumerate(calibration(opened), 1)
        ),
        "",
        "| " + " | ".join(_HEADINGS) + " |",
        "|---" * len(_HEADINGS) + "|",
        *(
            "| " + " | ".join(shown(value) for value in _cells(row)) + " |"
            for row in thresholds(counts)
        ),
    ]
    return "\n".join(lines)


def figures(opened: OpenedScores) -> dict[str, Figure]:
    """Name -> ROC and precision-recall curve, calibration, distribution of scores, confusion
    matrix at one half."""
    counts = counts_of(opened)
    drawn = {"calibration": _calibration(opened), "scores": _scores(counts)}
    if counts.sum(axis=1).all():
        drawn |= {"roc": _roc(counts), "precision_recall": _precision_recall(counts)}
        drawn |= {"confusion_matrix": _confusion(counts)}
    return drawn


def _roc(counts: Counts) -> Figure:
    figure, axes = _square("ROC curve, pooled", "1 - specificity", "sensitivity")
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="chance")
    axes.plot(*roc(counts), marker=".", label="model")
    axes.legend(loc="lower right")
    return figure


def _precision_recall(counts: Counts) -> Figure:
    figure, axes = _square(
        "Precision and recall, pooled", "recall (sensitivity)", "precision (PPV)"
    )
    share = float(counts[1].sum() / counts.sum())
    axes.axhline(share, color="grey", linestyle=":", label=f"chance ({share:.2f})")
    axes.plot(*precision_recall(counts), marker=".", label="model")
    axes.legend(loc="lower left")
    return figure


def _calibration(opened: OpenedScores) -> Figure:
    """Observed shares with their intervals above, numbers of patients below."""
    from matplotlib.figure import Figure

    groups = calibration(opened)
    figure = Figure(figsize=(6, 7), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color="grey", linestyle=":", label="perfect")
    scores, observed = [g.score for g in groups], [g.observed for g in groups]
    ends = [[g.observed - g.low for g in groups], [g.high - g.observed for g in groups]]
    upper.errorbar(scores, observed, yerr=ends, marker="o", capsize=3, label="model, 95% interval")
    upper.set(title="Calibration, pooled", ylabel="observed share of label 1")
    upper.set(xlim=(0, 1), ylim=(-0.02, 1.02))
    upper.legend(loc="upper left")
    bars = lower.bar(scores, [g.patients for g in groups], width=0.05)
    lower.bar_label(bars, fmt="{:,.0f}", fontsize=8)
    lower.set(xlabel="mean score", ylabel="patients")
    lower.margins(y=0.25)
    return figure


def _scores(counts: Counts) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    edges = np.arange(counts.shape[1] + 1) / counts.shape[1]
    for label, of in enumerate(counts):
        axes.stairs(of, edges, fill=True, alpha=0.5, label=f"label {label}")
    axes.set(title="Scores by label, pooled", xlabel="score", ylabel="patients", xlim=(0, 1))
    axes.legend()
    return figure


def _confusion(counts: Counts) -> Figure:
    from matplotlib.figure import Figure

    half = counts.shape[1] // 2
    table = np.stack([counts[:, :half].sum(axis=1), counts[:, half:].sum(axis=1)], axis=1)
    shares = table / table.sum(axis=1, keepdims=True)
    figure = Figure(figsize=(5, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for label in (0, 1):
        for called in (0, 1):
            share = float(shares[label, called])
            axes.text(
                called,
                label,
                f"{table[label, called]:,.0f}\n{share:.1%}",
                ha="center",
                va="center",
                color="white" if share > 0.5 else "black",
            )
    axes.set(title=f"Called positive from {half / counts.shape[1]:g} on, pooled")
    axes.set_xticks([0, 1], ["called negative", "called positive"])
    axes.set_yticks([0, 1], ["label 0", "label 1"])
    return figure


def _square(title: str, across: str, up: str) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 5.5), layout="constrained")
    axes = figure.add_subplot()
    axes.set(title=title, xlabel=across, ylabel=up, xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    return figure, axes


def _cells(row: Threshold) -> tuple[float, ...]:
    return (
        row.threshold,
        row.sensitivity,
        row.specificity,
        row.positive_value,
        row.negative_value,
        row.called,
    )


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else float("nan")
