"""For whom a model fails, as a reviewer reads it: a table, a forest plot, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from protocol.document import finite
from protocol.metrics.subgroup_figures import LevelFigures, SubgroupFigures
from protocol.outcomes.estimates import Estimate, shown
from protocol.study.study import Study
from protocol.terminal.printable import as_markdown
from server.outcome import Outcome

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_HIDDEN = "not shown"
_MOST_IN_TAG = 4


def markdown(outcome: Outcome) -> str:
    """Each level with the figures by which models are compared; empty without subgroups."""
    if not outcome.subgroups:
        return ""
    kind = outcome.study.outcome
    headings = [kind.metrics[name].label or name.replace("_", " ") for name in kind.compared]
    rows = [
        f"| {as_markdown(of.name)} | {as_markdown(level.level)} | {_patients(level)} | "
        + " | ".join(_cell(level.metrics.get(name)) for name in kind.compared)
        + " |"
        for of in outcome.subgroups
        for level in of.levels
    ]
    table = ["| by | level | patients | " + " | ".join(headings) + " |", "|---|---|---|---|---|"]
    return "\n\n".join(
        ["## For whom it fails", "\n".join([*table, *rows]), *_compared(outcome), _how(outcome)]
    )


def _compared(outcome: Outcome) -> list[str]:
    """Every difference, the surest first; nothing where no two levels are shown."""
    kind = outcome.study.outcome
    found = [(one.p, of.name, one) for of in outcome.subgroups for one in of.differences]
    if not found:
        return []
    rows = [
        f"| {as_markdown(name)} | {as_markdown(one.level)} less {as_markdown(one.reference)} | "
        f"{kind.metrics[one.metric].label or one.metric} | {_cell(one.difference)} | {p:.2g} |"
        for p, name, one in sorted(found, key=lambda each: each[:2])
    ]
    head = ["| by | levels | figure | difference (95% interval) | p |", "|---|---|---|---|---|"]
    return ["\n".join([*head, *rows])]


def _how(outcome: Outcome) -> str:
    study, compared = outcome.study, sum(len(of.differences) for of in outcome.subgroups)
    noise = "with their noise" if study.evaluation.noised else "exactly"
    said = (
        f"Counted {noise}, over all sites together; a level of fewer than "
        f'{study.evaluation.least_count} counted patients is not shown, and "missing" is a level.'
    )
    if compared:
        said += (
            f" {compared} differences were looked at: p is two-sided and corrected for all of them "
            "by Holm's method; the intervals are of one difference each."
        )
    return said


def in_a_tag(outcome: Outcome) -> str:
    """One line: the levels that differ most surely, or that none does; empty without subgroups."""
    if not outcome.subgroups:
        return ""
    kind, found = outcome.study.outcome, []
    for of in outcome.subgroups:
        for one in of.differences:
            if one.metric == kind.compared[0] and one.p < 0.05:
                found.append((one.p, f"{of.name} {one.level}: {one.difference.value:+.3f}"))
    names = ", ".join(of.name for of in outcome.subgroups)
    label = kind.metrics[kind.compared[0]].label
    if not found:
        return f"by {names}: no level's {label} surely differs"
    worst = "; ".join(text for _, text in sorted(found)[:_MOST_IN_TAG])
    return f"by {names}: {label} differs: {worst}"


def plain(study: Study, subgroups: tuple[SubgroupFigures, ...]) -> dict[str, object]:
    """The figures for programs."""
    return {
        "study": study.digest,
        "least_count": study.evaluation.least_count,
        "noised": study.evaluation.noised,
        "correction": "Holm",
        "subgroups": [finite(asdict(of)) for of in subgroups],
    }


def files(outcome: Outcome) -> dict[str, bytes]:
    """subgroups.json and subgroups.csv; nothing without subgroups."""
    if not outcome.subgroups:
        return {}
    text = json.dumps(plain(outcome.study, outcome.subgroups), indent=2, allow_nan=False)
    return {"subgroups.json": text.encode(), "subgroups.csv": _csv(outcome.subgroups)}


def _csv(subgroups: tuple[SubgroupFigures, ...]) -> bytes:
    """A row a figure: of a level, and of a difference from the reference level."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["by", "level", "reference", "figure", "value", "low", "high", "holm_p"])
    for of in subgroups:
        for level in of.levels:
            known = {"patients": level.patients} | dict(level.metrics)
            for name, figure in known.items():
                values = ("", "", "") if figure is None else _numbers(figure)
                writer.writerow([of.name, _safe(level.level), "", name, *values, ""])
        for one in of.differences:
            levels = _safe(one.level), _safe(one.reference)
            values = _numbers(one.difference)
            writer.writerow([of.name, *levels, one.metric, *values, f"{one.p:.3g}"])
    return buffer.getvalue().encode()


def _safe(text: str) -> str:
    """A spreadsheet takes what begins so for a formula."""
    return f"'{text}" if text[:1] in "=+-@\t\r" else text


def _numbers(of: Estimate) -> tuple[str, str, str]:
    return f"{of.value:.6g}", f"{of.low:.6g}", f"{of.high:.6g}"


def forest(outcome: Outcome) -> Figure:
    """The first figure of every level with its interval, beside that of all patients."""
    from matplotlib.figure import Figure

    kind = outcome.study.outcome
    first = kind.compared[0]
    rows: list[tuple[str, Estimate | None]] = [("all patients", outcome.metrics.get(first))]
    for of in outcome.subgroups:
        for level in of.levels:
            patients = "" if level.patients is None else f" (n = {level.patients.value:.0f})"
            rows.append((f"{of.name}: {level.level}{patients}", level.metrics.get(first)))
    figure = Figure(figsize=(8, 1.5 + 0.34 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    for place, (_, estimate) in enumerate(rows):
        if estimate is None:
            axes.text(0.5, place, _HIDDEN, transform=axes.get_yaxis_transform(), va="center")
            continue
        colour = "black" if place == 0 else "tab:blue"
        axes.plot([estimate.low, estimate.high], [place, place], color=colour)
        axes.plot([estimate.value], [place], marker="s", color=colour)
        if place == 0:
            axes.axvline(estimate.value, color="grey", linestyle=":")
    axes.set_yticks(range(len(rows)), [label for label, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set(title="By subgroup, pooled", xlabel=f"{kind.metrics[first].label}, with 95% interval")
    return figure


def _patients(level: LevelFigures) -> str:
    return _HIDDEN if level.patients is None else f"about {level.patients.value:,.0f}"


def _cell(of: Estimate | None) -> str:
    return "" if of is None else f"{shown(of.value)} ({shown(of.low)} to {shown(of.high)})"
