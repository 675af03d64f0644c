"""A query's answers as rows, JSON, metrics and Markdown: pooled and noised figures only."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from protocol.metrics.query_answers import Answer, derived_names, labels
from protocol.outcomes.estimates import Estimate
from protocol.study.condition import in_words
from protocol.study.query import Query
from protocol.study.study import Study
from protocol.terminal.printable import as_markdown
from server.outcome import Outcome
from tasks import query_schema, registry
from tasks.schema import Column

_MAX_METRICS = 500
_MAX_ROWS = 60
_TOO_FEW = "too few patients for their noise"


@dataclass(frozen=True)
class AnswerRow:
    """One figure of an answer. estimate: None where `hidden` says, in its place, why."""

    label: tuple[str, ...]
    estimate: Estimate | None
    hidden: str

    @property
    def telling(self) -> bool:
        """Not a cell of missing values with hardly anybody in it, which is the usual case."""
        return self.estimate is not None or not {"missing", "unknown"} & set(self.label)


def rows(query: Query, index: int, answer: Answer) -> list[AnswerRow]:
    """An answer's cells with 95% intervals of the noise, or what was derived from them."""
    statistic = query.statistics[index]
    if names := derived_names(statistic):
        return [AnswerRow((name,), answer.derived.get(name), _TOO_FEW) for name in names]
    width = answer.half_width
    return [
        AnswerRow(
            label or ("patients",),
            None if count is None else Estimate(count, max(0.0, count - width), count + width),
            f"fewer than {query.least_count}",
        )
        for label, count in zip(labels(statistic), answer.counts, strict=True)
    ]


def answered(outcome: Outcome) -> list[tuple[Answer, list[AnswerRow]]]:
    """Every answer of a query with its rows; nothing for a study that trains."""
    query = outcome.study.query
    if query is None:
        return []
    return [(answer, rows(query, at, answer)) for at, answer in enumerate(outcome.answers)]


def plain(outcome: Outcome) -> list[dict[str, Any]]:
    """Every answer as JSON; a figure that is not shown has no value but, as `hidden`, why."""
    return [
        {
            "name": answer.name,
            "within_95": answer.half_width,
            "rows": [
                {"label": list(row.label)}
                | ({"hidden": row.hidden} if row.estimate is None else asdict(row.estimate))
                for row in rows
            ],
        }
        for answer, rows in answered(outcome)
    ]


def to_csv(outcome: Outcome) -> str:
    """One line a figure: statistic, label, value, low, high, note (why there is none)."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("statistic", "label", "value", "low", "high", "note"))
    for answer, rows in answered(outcome):
        for row in rows:
            of, where = row.estimate, (answer.name, " · ".join(row.label))
            figures = ("", "", "", row.hidden) if of is None else (of.value, of.low, of.high, "")
            writer.writerow((*where, *figures))
    return text.getvalue()


def metrics(outcome: Outcome) -> Iterator[tuple[str, float]]:
    """`statistic/label`, and its interval as `_low` and `_high`; the first 500."""
    shown = (
        (f"{slug(answer.name)}/{slug(' '.join(row.label))}", row.estimate)
        for answer, rows in answered(outcome)
        for row in rows
        if row.estimate is not None
    )
    for name, of in islice(shown, _MAX_METRICS):
        yield from ((name, of.value), (f"{name}_low", of.low), (f"{name}_high", of.high))


def markdown(outcome: Outcome) -> str:
    """The answers as tables."""
    if not outcome.answers:
        return "## Answers\n\nThe query ended before it was answered."
    parts, shown = ["## Answers", "Over all sites together; intervals (95%) are of the noise."], 0
    for answer, rows in answered(outcome):
        lines = [
            f"### {as_markdown(answer.name)}",
            "",
            "| | value | 95% interval |",
            "|---|---|---|",
        ]
        for row in rows:
            of, name = row.estimate, as_markdown(" · ".join(row.label))
            if of is None:
                lines.append(f"| {name} | {row.hidden} | |")
            else:
                lines.append(f"| {name} | **{of.value:.4g}** | {of.low:.4g} to {of.high:.4g} |")
        shown += len(lines)
        if shown > _MAX_ROWS and len(parts) > 2:
            parts.append("More of it is in the artifact `answers.json`.")
            break
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def captions(study: Study) -> list[str]:
    """What the columns of each statistic mean, in which unit; "" where the task does not say."""
    if study.query is None:
        return []
    known = {}
    if study.task.name in registry.installed():
        task = registry.load(study.task.name, study.task.options)
        known = query_schema.columns(
            query_schema.asked_schema(study.query, task.schema, task.outcome)
        )
    return [
        "; ".join(_meaning(known[name]) for name in statistic.columns if name in known)
        for statistic in study.query.statistics
    ]


def _meaning(column: Column) -> str:
    named = column.meaning.startswith(column.name)
    said = column.meaning if named else f"{column.name}: {column.meaning}"
    measured = column.kind == "number" and column.unit != "1"
    return f"{said}, in {column.unit}" if measured else said


def question(query: Query) -> str:
    """The cohort in words."""
    whom = "patients"
    if (scored := query.scored) is not None:
        whom = f"patients scored from {scored.since} to {scored.until} by model {scored.model[:12]}"
    elif query.where is None:
        return "all patients of the task"
    return whom if query.where is None else f"{whom} with a record where {in_words(query.where)}"


def slug(text: str) -> str:
    """What MLflow takes as a part of a metric's name."""
    return re.sub(r"[^A-Za-z0-9_.:-]+", "_", text).strip("_")[:100] or "all"
