"""Pictures of a study for reviewers: learning curve and calibration, as PNG."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from protocol.outcomes.kinds import CURVES
from server.outcome import Outcome, RoundReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def figures(outcome: Outcome) -> dict[str, bytes]:
    """File name -> PNG; only what the outcome has the figures for."""
    figures = {}
    if any(report.metrics for report in outcome.rounds):
        figures["learning_curve.png"] = _png(_learning_curve(outcome))
    if outcome.calibration:
        figures["calibration.png"] = _png(_calibration(outcome))
    return figures


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


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
