"""A query's answers in a terminal: one table of bars for each statistic."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from launch.queries.ask import QueryResult, receipt_lines
from protocol.statistics.results import AnalysisResult
from protocol.terminal.printable import printable
from server.answers.analysis_report import in_words
from server.answers.query_report import AnswerRow, answered, captions, question

_WIDTH = 30
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def show(result: QueryResult, console: Console) -> None:
    """Figures with 95% intervals of the noise, what was spent, where it lies."""
    outcome = result.outcome
    query = outcome.study.query
    if query is None:
        return
    console.print(Text(printable(f"Of {question(query)}:")))
    if result.analysis is not None:
        _show_analysis(result.analysis, console)
        _show_receipt(result, console)
        return
    for (answer, rows), caption in zip(answered(outcome), captions(outcome.study), strict=False):
        console.print(_table(answer.name, [row for row in rows if row.telling]))
        if caption:
            console.print(Text(printable(caption), style="dim"))
    _show_receipt(result, console)


def _show_receipt(result: QueryResult, console: Console) -> None:
    for line in receipt_lines(result):
        console.print(Text(printable(line)), soft_wrap=True)


def _show_analysis(result: AnalysisResult, console: Console) -> None:
    for one in result.tables:
        title = Text(printable(one.title), style="bold")
        table = Table(title=title, title_justify="left", box=None, pad_edge=False)
        table.add_column()
        for name in one.columns:
            table.add_column(Text(printable(name)), justify="right")
        for row in one.rows:
            cells = (Text(printable(in_words(cell))) for cell in row.cells)
            table.add_row(Text(printable(row.label)), *cells)
        console.print(table)
    for note in result.notes:
        console.print(Text(printable(note), style="dim"), soft_wrap=True)


def _table(name: str, rows: list[AnswerRow]) -> Table:
    title = Text(printable(name), style="bold")
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    width = max((len(row.label) for row in rows), default=1)
    for _ in range(width):
        table.add_column()
    table.add_column("value", justify="right")
    table.add_column("95% interval", justify="right")
    table.add_column("")
    longest = max((row.estimate.value for row in rows if row.estimate is not None), default=0.0)
    for row in rows:
        of, label = row.estimate, [Text(printable(part)) for part in row.label]
        if of is None:
            table.add_row(*label, Text(row.hidden, style="dim"), "", "")
            continue
        interval = f"{_figure(of.low)} to {_figure(of.high)}"
        table.add_row(*label, _figure(of.value), interval, bar(of.value, longest))
    return table


def bar(value: float, longest: float) -> str:
    """A bar of at most 30 characters, to an eighth of one."""
    eighths = round(8 * _WIDTH * max(0.0, value) / longest) if longest > 0 else 0
    return "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:,.1f}"
