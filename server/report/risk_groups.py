"""Kaplan-Meier curves of patients whom a survival model calls at low, middling and high risk.

Post-processing of the opened histogram of follow-up by risk (`protocol.outcomes.time_to_event`):
it costs no privacy. Groups are thirds of the patients, by whole bins of the risk. Curves and bands
are those of `protocol.statistics.survival`, of patients and noise together.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from protocol.outcomes.estimates import Counts, project
from protocol.outcomes.time_to_event import TimeToEvent
from protocol.statistics.noised_table import NoisedTable
from protocol.statistics.survival import Curve, at_risk_and_events, estimate
from server.outcome import OpenedScores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GROUPS = 3
_HEADINGS = ("risk from", "risk to", "time", "at risk before", "survival", "low", "high")
_NORMAL = np.linspace(-4, 4, 81)
"""Where the noise of a cell lies, in standard deviations: of the sum of what many sites drew."""


@dataclass(frozen=True)
class RiskGroup:
    """Patients whose risk over all intervals is between `low` and `high`. at_risk: (K,)."""

    low: float
    high: float
    at_risk: Counts
    curve: Curve


def risk_groups(
    kind: TimeToEvent, opened: OpenedScores, bins: int, least_count: int
) -> list[RiskGroup]:
    """From low risk to high; a group that noise could make up is left out."""
    table = kind.patients(np.array(opened.counts, dtype=np.float64), bins)
    deviation = float(np.sqrt(opened.variance)) / kind.weight
    values, chances = _NORMAL * deviation, np.exp(-(_NORMAL**2) / 2)
    by_bin = project(table[1:].sum(axis=0))
    ends = np.searchsorted(np.cumsum(by_bin), by_bin.sum() * np.arange(1, GROUPS) / GROUPS) + 1
    edges, generator, found = np.array((0.0, *kind.ends)), np.random.default_rng(0), []
    for first, last in zip((0, *ends), (*ends, bins), strict=True):
        if first >= min(last, bins):
            continue
        cells = _cells(table[:, first:last].sum(axis=1))
        noised = NoisedTable((), cells, values, chances, least_count)
        if not noised.enough(float(cells.sum()), (last - first) * (cells.size - 1)):
            continue
        seen = project(cells)
        curve = estimate(seen, edges, noised, int(last - first), generator)
        low, high = float(first / bins) ** 2, float(last / bins) ** 2
        found.append(RiskGroup(low, high, at_risk_and_events(seen)[0], curve))
    return found


def _cells(by_code: Counts) -> Counts:
    """(2 K + 1,) patients by label -> (2, K + 1) events and departures by interval, the last one
    beyond all. Whoever was not followed through half of the first interval tells nothing."""
    intervals = len(by_code) // 2
    cells = np.zeros((2, intervals + 1))
    cells[0, :intervals] = by_code[1::2]
    cells[1, : intervals - 1] = by_code[2:-1:2]
    cells[1, intervals] = by_code[-1]
    return cells


def table(kind: TimeToEvent, groups: list[RiskGroup]) -> bytes:
    """As CSV, a line for each group and interval."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(_HEADINGS)
    for of in groups:
        parts = (of.at_risk, of.curve.survival, of.curve.low, of.curve.high)
        for end, *figures in zip(kind.ends, *parts, strict=True):
            numbers = (of.low, of.high, end, *map(float, figures))
            rows.writerow([f"{number:.6g}" for number in numbers])
    return text.getvalue().encode()


def figure(kind: TimeToEvent, groups: list[RiskGroup]) -> Figure:
    """Curves with bands, as steps."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(7, 5), layout="constrained")
    axes, times = drawn.add_subplot(), (0.0, *kind.ends)
    for of in groups:
        label = f"risk {of.low:.2g} to {of.high:.2g}, about {max(of.at_risk[0], 0):.0f} patients"
        axes.step(times, (1.0, *of.curve.survival), where="post", label=label)
        low, high = (1.0, *of.curve.low), (1.0, *of.curve.high)
        axes.fill_between(times, low, high, step="post", alpha=0.2)
    axes.set(
        title="Kaplan-Meier by risk group, pooled, with 95% bands",
        xlabel="time",
        ylabel="share without event",
        ylim=(0, 1.02),
    )
    axes.legend(loc="lower left")
    return drawn
