"""An analysis as CSV, JSON, metrics and Markdown: pooled and noised figures only."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from typing import Any

from protocol.statistics.results import AnalysisResult, Figure, ResultTable
from protocol.terminal.printable import as_markdown
from server.answers.query_report import slug

_MAX_METRICS = 500
_MAX_ROWS = 60


def in_words(cell: Figure | str) -> str:
    """`12.3 (10.1 to 14.5)`, or why there is no figure."""
    match cell:
        case str():
            return cell
        case Figure(value, None, None):
            return _number(value, "")
        case Figure(value, low, high):
            ends = f"{_number(low, 'not reached')} to {_number(high, 'not reached')}"
            return f"{_number(value, 'not reached')} ({ends})"


def _number(value: float | None, nothing: str) -> str:
    if value is None:
        return nothing
    if 0 < abs(value) < 5e-4:
        return f"{value:.1e}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def to_csv(result: AnalysisResult) -> str:
    """One line a figure: table, row, column, value, low, high, note (why there is none)."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("table", "row", "column", "value", "low", "high", "note"))
    for table, row, column, cell in _cells(result):
        where = (table.title, row, column)
        match cell:
            case str():
                if cell:
                    writer.writerow((*where, "", "", "", cell))
            case Figure():
                writer.writerow((*where, cell.value, cell.low, cell.high, ""))
    return text.getvalue()


def plain(result: AnalysisResult) -> dict[str, Any]:
    """As JSON."""
    return asdict(result)


def metrics(result: AnalysisResult | None) -> Iterator[tuple[str, float]]:
    """`table/row/column`, and its interval as `_low` and `_high`; the first 500. Names that are
    alike once signs are left out (a > 1, a < 1) are numbered."""
    if result is None:
        return
    seen: Counter[str] = Counter()
    for table, row, column, of in islice(_cells(result), _MAX_METRICS):
        if isinstance(of, str):
            continue
        name = "/".join(slug(part) for part in (table.title, row, column))
        seen[name] += 1
        name += f"_{seen[name]}" if seen[name] > 1 else ""
        for end, value in (("", of.value), ("_low", of.low), ("_high", of.high)):
            if value is not None:
                yield f"{name}{end}", value


def markdown(result: AnalysisResult) -> str:
    """As tables, the first rows of each, and its notes."""
    parts = ["## Analysis"]
    for table in result.tables:
        lines = [
            f"### {as_markdown(table.title)}",
            "",
            "| | " + " | ".join(map(as_markdown, table.columns)) + " |",
            "|---" * (1 + len(table.columns)) + "|",
            *(
                f"| {as_markdown(row.label)} | {' | '.join(map(in_words, row.cells))} |"
                for row in table.rows[:_MAX_ROWS]
            ),
        ]
        parts.append("\n".join(lines))
        if len(table.rows) > _MAX_ROWS:
            parts.append("More of it is in the artifact `analysis.csv`.")
    parts.append("\n".join(f"- {as_markdown(note)}" for note in result.notes))
    return "\n\n".join(parts)


def _cells(result: AnalysisResult) -> Iterator[tuple[ResultTable, str, str, Figure | str]]:
    for table in result.tables:
        for row in table.rows:
            for column, cell in zip(table.columns, row.cells, strict=True):
                yield table, row.label, column, cell
