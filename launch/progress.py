"""What a person sees while a study runs: a live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Literal, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from protocol.scores import Estimate
from protocol.study import Study
from server.report import Outcome, RoundReport

SHOWN = 12
"""Rounds in the live table; the last ones stay in view."""
COLUMNS = {"auc": "AUC", "average_precision": "AP", "brier": "Brier", "log_loss": "loss"}


class Progressing:
    """A listener that shows rounds as they happen. Use as a context manager."""

    def __init__(self, study: Study, console: Console | None = None) -> None:
        self._study = study
        self._console = console or Console(stderr=True)
        self._rows: list[RoundReport] = []
        self._note = ""
        self._bar = Progress(
            TextColumn("round"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self._job = self._bar.add_task("", total=study.optimisation.rounds)
        self._live: Live | None = None
        self._printed = 0.0

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(
                console=self._console, refresh_per_second=4, get_renderable=self._view
            )
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def waiting(self, why: Literal["offline", "approval", "hours"], sites: tuple[str, ...]) -> None:
        words = {
            "offline": "waiting for sites to come online: ",
            "approval": "waiting for approval at: ",
            "hours": "waiting for the working hours of: ",
        }
        self._say(words[why] + ", ".join(sites) if sites else "")

    def lost(self, round_: int, attempt: int, why: str) -> None:
        self._say(f"round {round_}: attempt {attempt} was lost ({why}); trying again")

    def round(self, report: RoundReport) -> None:
        self._rows.append(report)
        self._note = ""
        self._bar.update(self._job, completed=report.round)
        now, last = time.monotonic(), report.round == self._study.optimisation.rounds
        if self._live is None and (report.metrics or last or now - self._printed > 5):
            self._printed = now
            self._console.print(plain_line(report, self._study.optimisation.rounds))

    def finish(self, outcome: Outcome) -> None:
        self._note = ""

    def _say(self, note: str) -> None:
        if note and note != self._note and self._live is None:
            self._console.print(note)
        self._note = note

    def _view(self) -> Group:
        table = Table(box=None, pad_edge=False)
        for heading in ("round", *COLUMNS.values(), "epsilon", "s", "kB"):
            table.add_column(heading, justify="right")
        scored = [row for row in self._rows if row.metrics]
        shown = scored[-SHOWN:] if len(scored) > 1 else self._rows[-SHOWN:]
        for row in shown:
            table.add_row(*cells(row))
        return Group(table, self._bar, Text(self._note, style="yellow"))


def cells(report: RoundReport) -> list[str]:
    """One row of the table of rounds."""
    return [
        str(report.round),
        *(_value(report.metrics.get(name)) for name in COLUMNS),
        "" if report.epsilon is None else f"{report.epsilon:.3f}",
        f"{report.seconds:.2f}",
        f"{(report.bytes_sent + report.bytes_received) / 1000:.1f}",
    ]


def plain_line(report: RoundReport, rounds: int) -> str:
    """One round as a line, for a log file or a pipe."""
    metrics = "".join(
        f" {label} {report.metrics[name].value:.3f}"
        for name, label in COLUMNS.items()
        if name in report.metrics
    )
    epsilon = "" if report.epsilon is None else f" epsilon {report.epsilon:.3f}"
    return f"round {report.round}/{rounds}{metrics}{epsilon} {report.seconds:.2f} s"


def _value(estimate: Estimate | None) -> str:
    return "" if estimate is None else f"{estimate.value:.3f}"
