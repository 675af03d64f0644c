"""Utility against what was swept, with error bars over seeds, as PNG."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from launch.studies.sweeps.result import SweepGroup, SweepResult, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PANELS = {"auc": "ROC AUC", "average_precision": "average precision"}
_WIDE = 8.0
"""Ratio of the largest to the smallest value from which an axis is logarithmic."""


def utility(result: SweepResult) -> bytes:
    """The first swept key along the axis, a line for each combination of the others. Points are
    means, bars one standard deviation over seeds."""
    from matplotlib.figure import Figure

    groups = result.groups()
    panels = {name: label for name, label in _PANELS.items() if name in groups[0].mean}
    figure = Figure(figsize=(4.8 * max(1, len(panels)), 4), layout="constrained")
    for at, (name, label) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(1, len(panels), at)
        _panel(axes, result, groups, name)
        axes.set(xlabel=result.axes[0] if result.axes else "all", ylabel=label)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=150)
    return png.getvalue()


def _panel(axes: Axes, result: SweepResult, groups: list[SweepGroup], name: str) -> None:
    lines: dict[str, list[SweepGroup]] = {}
    for group in groups:
        rest = ", ".join(f"{key}={group.values[key]}" for key in result.axes[1:])
        lines.setdefault(rest, []).append(group)
    swept = [group.values[result.axes[0]] if result.axes else "" for group in groups]
    numbers = [number(value) for value in swept]
    known = [value for value in numbers if value is not None]
    numeric = len(known) == len(swept)
    ticks = list(dict.fromkeys(swept))
    for label, of in lines.items():
        named = [group.values[result.axes[0]] if result.axes else "" for group in of]
        places = [number(value) if numeric else ticks.index(value) for value in named]
        axes.errorbar(
            [float(place or 0.0) for place in places],
            [group.mean[name] for group in of],
            yerr=[group.deviation[name] for group in of],
            marker="o",
            capsize=3,
            label=label,
        )
    if not numeric:
        axes.set_xticks(range(len(ticks)), ticks)
    else:
        if min(known) > 0 and max(known) / min(known) >= _WIDE:
            axes.set_xscale("log")
        axes.set_xticks(sorted(set(known)), [f"{value:g}" for value in sorted(set(known))])
        axes.minorticks_off()
    axes.grid(alpha=0.3)
    if len(lines) > 1:
        axes.legend()
