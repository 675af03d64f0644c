"""Pictures of a study for reviewers, as PNG, and the tables of thresholds and subgroups: what was
opened anyway.

A kind of outcome draws its own evaluation in a module of its own (`binary_evaluation`).
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, assert_never

import numpy as np

from protocol.outcomes.binary import Binary
from protocol.outcomes.events import EventCount
from protocol.outcomes.kinds import CURVES
from protocol.outcomes.multiclass import Multiclass
from protocol.outcomes.multilabel import MultiLabel
from protocol.outcomes.ordinal import Ordinal
from protocol.outcomes.regression import Regression
from protocol.outcomes.segmentation import Segmentation
from protocol.outcomes.time_to_event import TimeToEvent
from server.outcome import OpenedScores, Outcome, RoundReport
from server.report import binary_evaluation, risk_groups, subgroups

_MOST_WRITTEN = 12
"""Classes whose counts fit a picture."""

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def figures(outcome: Outcome) -> dict[str, bytes]:
    """File name -> content; only what the outcome has the figures for."""
    figures = {}
    if any(report.metrics for report in outcome.rounds):
        figures["learning_curve.png"] = _png(_learning_curve(outcome))
    if outcome.scores is not None and outcome.scores.total > 0:
        figures |= _evaluation(outcome, outcome.scores)
    if outcome.subgroups:
        figures["subgroups.png"] = _png(subgroups.forest(outcome))
    return figures | subgroups.files(outcome)


def _evaluation(outcome: Outcome, opened: OpenedScores) -> dict[str, bytes]:
    match outcome.study.outcome:
        case Binary():
            drawn = binary_evaluation.figures(opened)
            counts = binary_evaluation.counts_of(opened)
            return {f"{name}.png": _png(of) for name, of in drawn.items()} | {
                "thresholds.csv": binary_evaluation.threshold_table(counts)
            }
        case Multiclass() | Ordinal():
            return _calibrated(outcome) | {"confusion.png": _png(_confusion(outcome))}
        case MultiLabel() | Regression() | EventCount() | Segmentation():
            return _calibrated(outcome)
        case TimeToEvent() as kind:
            return _calibrated(outcome) | _by_risk(outcome, kind, opened)
        case never:
            assert_never(never)


def _by_risk(outcome: Outcome, kind: TimeToEvent, opened: OpenedScores) -> dict[str, bytes]:
    evaluation = outcome.study.evaluation
    groups = risk_groups.risk_groups(kind, opened, evaluation.bins, evaluation.least_count)
    if not groups:
        return {}
    return {
        "risk_groups.png": _png(risk_groups.figure(kind, groups)),
        "risk_groups.csv": risk_groups.table(kind, groups),
    }


def _calibrated(outcome: Outcome) -> dict[str, bytes]:
    return {"calibration.png": _png(_calibration(outcome))} if outcome.calibration else {}


def _learning_curve(outcome: Outcome) -> Figure:
    """Pooled metrics with their intervals above, epsilon spent below where there is one."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    private = [(r.round, r.epsilon) for r in outcome.rounds if r.epsilon is not None]
    figure = Figure(figsize=(7, 6 if private else 4), layout="constrained")
    upper = figure.add_subplot(2 if private else 1, 1, 1)
    scored = [r for r in outcome.rounds if r.metrics]
    for metric, label in CURVES.items():
        if known := [r for r in scored if metric in r.metrics]:
            _band(upper, known, metric, label)
    upper.xaxis.set_major_locator(MaxNLocator(integer=True))
    upper.set(title=outcome.study.task.name, ylabel="pooled, with 95% interval", xlabel="round")
    upper.legend(loc="lower right")
    if private:
        lower = figure.add_subplot(2, 1, 2, sharex=upper)
        lower.plot([at for at, _ in private], [spent for _, spent in private], marker=".")
        lower.set(xlabel="round", ylabel=f"epsilon at delta {outcome.study.privacy.delta:g}")
        lower.set_ylim(bottom=0)
    return figure


def _band(axes: Axes, reports: list[RoundReport], metric: str, label: str) -> None:
    rounds = [r.round for r in reports]
    of = [r.metrics[metric] for r in reports]
    axes.plot(rounds, [e.value for e in of], marker=".", label=label)
    axes.fill_between(rounds, [e.low for e in of], [e.high for e in of], alpha=0.2)


def _calibration(outcome: Outcome) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.add_subplot()
    low, high = outcome.study.outcome.score_range
    axes.plot([low, high], [low, high], color="grey", linestyle=":")
    points = sorted((p.score, p.observed) for p in outcome.calibration)
    axes.plot([p[0] for p in points], [p[1] for p in points], marker="o")
    axes.set(title="Calibration, pooled", xlabel="mean score", ylabel="mean of what was observed")
    axes.set(xlim=(low, high), ylim=(low, high))
    return figure


def _confusion(outcome: Outcome) -> Figure:
    """Each row in parts of its patients; the counts, which noise may make negative, as they were
    opened where there is room."""
    from matplotlib.figure import Figure

    counts = np.array(outcome.confusion)
    whole = np.maximum(counts, 0.0)
    shares = whole / np.maximum(whole.sum(axis=1, keepdims=True), 1.0)
    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(counts) <= _MOST_WRITTEN:
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, f"{count:.0f}", ha="center", va="center", color=colour)
        axes.set(xticks=range(len(counts)), yticks=range(len(counts)))
    noised = ", with noise" if outcome.study.evaluation.noised else ""
    axes.set(title=f"Patients, pooled{noised}", xlabel="what the model says", ylabel="label")
    return figure


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
