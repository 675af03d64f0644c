"""Plots the budget over time: epsilon of all debits, of open plans, and the cap.

Epsilon does not add up debit by debit; each point composes everything before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from client.config.policy import Policy
from client.governance.budget import Budget, Debit
from protocol.privacy.accounting import epsilon_over_bands

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_POINTS = 40
"""Compositions drawn; each costs some tens of milliseconds."""


def spending(
    debits: Sequence[Debit], delta: float, progress: Callable[[int, int], None] | None = None
) -> list[tuple[datetime, float]]:
    """Returns (time, epsilon at `delta` of all debits up to it), at MAX_POINTS times at most.

    The times are those of the first debit, the last, and debits evenly spread between them.
    progress: called with (points done, points in all).
    """
    spread = {len(debits) * (i + 1) // MAX_POINTS for i in range(MAX_POINTS)}
    stops = sorted((spread | {min(1, len(debits))}) - {0})
    points: list[tuple[datetime, float]] = []
    for done, stop in enumerate(stops, start=1):
        counts = Counter[tuple[str, str]]()
        for debit in debits[:stop]:
            counts[debit.study, debit.part] += debit.count
        units = {(d.study, d.part): d.event for d in debits[:stop]}
        events = [
            replace(unit, count=unit.count * counts[key])
            for key, unit in units.items()
            if unit is not None
        ]
        time = datetime.fromisoformat(debits[stop - 1].time)
        points.append((time, epsilon_over_bands(events, delta)))
        if progress is not None:
            progress(done, len(stops))
    return points


def plot_budget(
    account: Budget,
    debits: Sequence[Debit],
    policy: Policy,
    path: Path,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Writes a picture (the format follows the file's ending, PNG or SVG); needs no display.

    Raises OSError where `path` cannot be written.
    """
    from matplotlib import rc_context  # .3 s: not for whoever never plots

    points = spending(debits, policy.delta, progress)
    with rc_context({"date.converter": "concise"}):
        _figure(points, account, policy).savefig(path, dpi=150)


def _figure(points: list[tuple[datetime, float]], account: Budget, policy: Policy) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    if points:
        local = [policy.local(time).replace(tzinfo=None) for time, _ in points]
        times = np.array(local, dtype="datetime64[ms]")
        axes.step(times, [e for _, e in points], where="post", marker=".", label="spent")
    else:
        axes.set_xticks([])
    for value, label, style in (
        (account.reserved, "spent and reserved by open studies", ":"),
        (account.cap, "cap (policy.epsilon_lifetime)", "--"),
    ):
        if value is not None:
            axes.axhline(value, linestyle=style, color="0.4" if style == ":" else "C3", label=label)
    axes.set_ylim(bottom=0)
    axes.set_ylabel(f"epsilon at delta {policy.delta:g}, patient touched most")
    axes.set_title("Privacy spent on this site's patients, all studies")
    figure.legend(loc="outside lower center", ncols=3, fontsize="small", frameon=False)
    axes.grid(alpha=0.3)
    return figure
