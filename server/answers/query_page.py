"""A query's answers as one HTML page: bars with the noise's intervals, nothing loaded from afar."""

from __future__ import annotations

from protocol.privacy.epsilon_text import rounded_up
from protocol.privacy.releases import assumption
from protocol.terminal.printable import as_html
from server.answers.query_report import AnswerRow, answered, captions, question
from server.outcome import Outcome

_STYLE = """
:root { color-scheme: light dark; --bar: #4878a8; --noise: #222; }
@media (prefers-color-scheme: dark) { :root { --bar: #6f9fd0; --noise: #eee; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100% }
td, th { padding: .15rem .6rem; text-align: left; vertical-align: middle }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
td.bar { width: 45% } svg { display: block; width: 100%; height: 1.1rem }
.few, footer { opacity: .7 }
"""


def page(outcome: Outcome) -> str:
    """The whole document. Everything that a person wrote is escaped."""
    study, query = outcome.study, outcome.study.query
    sections = [
        _section(answer.name, caption, [row for row in rows if row.telling])
        for (answer, rows), caption in zip(answered(outcome), captions(study), strict=False)
    ]
    cohort = "" if query is None else f"<p>Of {as_html(question(query))}.</p>"
    spent = "none" if outcome.epsilon is None else rounded_up(outcome.epsilon)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{as_html(study.title)}</title>
<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>
<h1>{as_html(study.title)}</h1>{cohort}
{"".join(sections)}
<footer><p>Task {study.task.name} at {len(study.roster)} sites, summed under secure aggregation.
Epsilon {spent} at delta {study.privacy.delta:g} for each patient. {assumption(study)}
Lines are 95% intervals of the noise. Study <code>{study.digest}</code>.</p></footer></body></html>
"""


def _section(name: str, caption: str, rows: list[AnswerRow]) -> str:
    longest = max((row.estimate.high for row in rows if row.estimate is not None), default=1.0)
    lines = "".join(_line(row, max(longest, 1e-9)) for row in rows)
    said = f"<p class='few'>{as_html(caption)}</p>" if caption else ""
    return f"<h2>{as_html(name)}</h2>{said}<table>{lines}</table>"


def _line(row: AnswerRow, longest: float) -> str:
    label, of = as_html(" · ".join(row.label)), row.estimate
    if of is None:
        return f"<tr><td>{label}</td><td class='number few'>{row.hidden}</td><td></td></tr>"
    at, low, high = (100 * max(0.0, value) / longest for value in (of.value, of.low, of.high))
    picture = (
        f"<svg viewBox='0 0 100 10' preserveAspectRatio='none' role='img' aria-label='{label}'>"
        f"<rect width='{at:.2f}' height='10' fill='var(--bar)' opacity='.7'/>"
        f"<line x1='{low:.2f}' x2='{high:.2f}' y1='5' y2='5' stroke='var(--noise)'/></svg>"
    )
    figure = f"{of.value:,.4g} <small>({of.low:,.4g} to {of.high:,.4g})</small>"
    return (
        f"<tr><td>{label}</td><td class='number'>{figure}</td><td class='bar'>{picture}</td></tr>"
    )
