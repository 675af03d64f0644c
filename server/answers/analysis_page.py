"""An analysis as one HTML page: tables, curves with bands, forest plots; nothing from afar."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import assert_never

from protocol.privacy.epsilon_text import rounded_up
from protocol.privacy.releases import assumption
from protocol.statistics.results import AnalysisResult, Figure, ResultRow, ResultTable
from protocol.terminal.printable import as_html
from server.answers.analysis_report import in_words
from server.answers.query_report import question
from server.outcome import Outcome

_STYLE = """
:root { color-scheme: light dark; --line: #222; --faint: #8888 }
@media (prefers-color-scheme: dark) { :root { --line: #eee } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
td, th { padding: .15rem .7rem; text-align: right; border-bottom: 1px solid var(--faint) }
td { white-space: nowrap }
td:first-child, th:first-child { text-align: left }
svg { max-width: 46rem; width: 100%; font-size: 12px; fill: var(--line) } div { overflow-x: auto }
footer, .note { opacity: .8 }
"""
_COLOURS = ("#4878a8", "#d1605e", "#6a9f58", "#a87c9f", "#e49444", "#85b6b2")
_WIDTH, _HEIGHT, _LEFT, _BELOW = 640.0, 300.0, 48.0, 40.0


def page(outcome: Outcome, result: AnalysisResult) -> str:
    """The whole document. Everything that a person wrote is escaped."""
    study = outcome.study
    cohort = "" if study.query is None else f"<p>Of {as_html(question(study.query))}.</p>"
    spent = "none" if outcome.epsilon is None else rounded_up(outcome.epsilon)
    notes = "".join(f"<p class='note'>{as_html(note)}</p>" for note in result.notes)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{as_html(study.title)}</title>
<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>
<h1>{as_html(study.title)}</h1>{cohort}
{"".join(map(_section, result.tables))}{notes}
<footer><p>Task {study.task.name} at {len(study.roster)} sites, summed under secure aggregation.
Epsilon {spent} at delta {study.privacy.delta:g} for each patient. {assumption(study)}
Study <code>{study.digest}</code>.</p></footer></body></html>
"""


def _section(table: ResultTable) -> str:
    match table.plot:
        case "curves":
            picture = _curves(table)
        case "forest":
            picture = _forest(table)
        case "none":
            picture = ""
        case never:
            assert_never(never)
    head = "".join(f"<th>{as_html(name)}</th>" for name in ("", *table.columns))
    rows = "".join(map(_row, table.rows))
    return (
        f"<h2>{as_html(table.title)}</h2>{picture}<div><table><tr>{head}</tr>{rows}</table></div>"
    )


def _row(row: ResultRow) -> str:
    cells = "".join(f"<td>{as_html(in_words(cell))}</td>" for cell in row.cells)
    return f"<tr><td>{as_html(row.label)}</td>{cells}</tr>"


def _curves(table: ResultTable) -> str:
    """Each column as a step curve from 1 on, with its band; a legend below."""
    end = max((row.at or 0.0 for row in table.rows), default=0.0) or 1.0
    drawn = []
    for at, name in enumerate(table.columns):
        points = [
            (row.at, cell)
            for row in table.rows
            if isinstance(cell := row.cells[at], Figure) and row.at is not None
        ]
        colour, legend = _COLOURS[at % len(_COLOURS)], _HEIGHT + _BELOW + 18 * at
        values = _steps([(x, of.value) for x, of in points], end)
        low = _steps([(x, of.low) for x, of in points], end)
        high = _steps([(x, of.high) for x, of in points], end)
        drawn.append(
            f"<polygon points='{' '.join([*low, *reversed(high)])}' fill='{colour}' opacity='.2'/>"
            f"<polyline points='{' '.join(values)}' fill='none' stroke='{colour}' "
            f"stroke-width='2'/><text x='{_LEFT + 14:.0f}' y='{legend:.0f}'>{as_html(name)}</text>"
            f"<rect x='{_LEFT:.0f}' y='{legend - 10:.0f}' width='10' height='10' fill='{colour}'/>"
        )
    ticks = [f"<text x='4' y='{_y(share) + 4:.1f}'>{share:g}</text>" for share in (0, 0.5, 1)]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = _LEFT + share * (_WIDTH - _LEFT)
        where = f"x='{x:.1f}' y='{_HEIGHT + 14:.0f}'"
        anchor = "end" if share == 1 else "middle"
        ticks.append(f"<text {where} text-anchor='{anchor}'>{share * end:g}</text>")
    return _svg(table.title, _HEIGHT + _BELOW + 18 * len(table.columns), [*ticks, *drawn])


def _steps(points: Sequence[tuple[float, float | None]], end: float) -> list[str]:
    before, corners = 1.0, [(0.0, 1.0)]
    for x, value in points:
        after = before if value is None else value
        corners += [(x, before), (x, after)]
        before = after
    return [f"{_LEFT + x / end * (_WIDTH - _LEFT):.1f},{_y(y):.1f}" for x, y in corners]


def _y(share: float) -> float:
    return 8 + (1 - min(max(share, 0.0), 1.0)) * (_HEIGHT - 8)


def _forest(table: ResultTable) -> str:
    """The first column's intervals, one below the other; on a scale of logarithms where it is of
    ratios. The intercept is left out."""
    rows = [(row.label, row.cells[0]) for row in table.rows if row.label != "(intercept)"]
    known = [(label, of) for label, of in rows if isinstance(of, Figure)]
    ratios = "ratio" in table.columns[0]
    ends = [_scaled(end, ratios) for _, of in known for end in (of.low, of.high)]
    if not ends:
        return ""
    least, most = min(*ends, 0.0), max(*ends, 0.0)
    left, width = 240.0, _WIDTH - 260.0

    def x(value: float) -> float:
        return left + (value - least) / max(most - least, 1e-9) * width

    height = 22.0 * len(known) + 24
    lines = [
        f"<line x1='{x(0.0):.1f}' x2='{x(0.0):.1f}' y1='0' y2='{height - 16:.0f}' "
        "stroke='var(--line)' stroke-dasharray='3'/>"
        f"<text x='{x(0.0) - 3:.1f}' y='{height - 2:.0f}'>{1 if ratios else 0}</text>"
    ]
    lines.extend(
        f"<text x='0' y='{22 * at + 16}'>{as_html(label)}</text>"
        f"<line x1='{x(_scaled(of.low, ratios)):.1f}' x2='{x(_scaled(of.high, ratios)):.1f}' "
        f"y1='{22 * at + 12}' y2='{22 * at + 12}' stroke='{_COLOURS[0]}' stroke-width='2'/>"
        f"<rect x='{x(_scaled(of.value, ratios)) - 4:.1f}' y='{22 * at + 8}' width='8' height='8' "
        f"fill='{_COLOURS[0]}'/>"
        for at, (label, of) in enumerate(known)
    )
    return _svg(table.title, height, lines)


def _scaled(value: float | None, ratios: bool) -> float:
    if value is None:
        return 0.0
    return math.log(min(max(value, 1e-9), 1e9)) if ratios else value


def _svg(name: str, height: float, parts: Iterator[str] | Sequence[str]) -> str:
    return (
        f"<svg viewBox='0 0 {_WIDTH:.0f} {height:.0f}' role='img' aria-label='{as_html(name)}'>"
        f"{''.join(parts)}</svg>"
    )
