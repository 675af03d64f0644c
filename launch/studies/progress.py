"""The progress display of a study: a live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from statistics import median
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from protocol.metrics.score_histogram import Estimate
from protocol.privacy.epsilon_text import rounded_up
from protocol.study.study import Study
from protocol.terminal import command_line
from protocol.terminal.printable import printable
from server.outcome import Outcome, RoundReport
from server.rounds.listener import Reason

SHOWN = 12
"""Rounds in the live table; the last ones stay in view."""
WAITING = {
    "offline": "waiting for sites to come online: ",
    "approval": "waiting for approval at: ",
    "hours": "waiting for the working hours of: ",
    "trouble": "waiting for a disk, ledger or clock to be mended at: ",
    "suspects": "paused, since at least one of these sends what no honest site sends: ",
    "unconfirmed": "not asked together until `wardround-site roster confirm` there: ",
}
COLUMNS = {"auc": "AUC", "average_precision": "AP", "brier": "Brier", "log_loss": "loss"}


class StudyProgress:
    """A listener that shows rounds as they happen. Use as a context manager."""

    def __init__(self, study: Study, console: Console | None = None) -> None:
        self._study = study
        self._console = console or command_line.console(stderr=True)
        self._rows: list[RoundReport] = []
        self._note = ""
        self._bar = Progress(
            TextColumn("round"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
        )
        self._job = self._bar.add_task("", total=study.optimisation.rounds, left="")
        self._live: Live | None = None
        self._printed = 0.0

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(
                console=self._console, refresh_per_second=4, get_renderable=self._view
            )
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def waiting(self, why: Reason, sites: tuple[str, ...]) -> None:
        self._show(WAITING[why] + ", ".join(sites) if sites else "")

    def lost(self, round_: int, attempt: int, why: str) -> None:
        left = max(0, self._study.spare_left(round_, attempt))
        spare = f"{left} of {self._study.spare_attempts} spare attempts left"
        if 4 * left <= self._study.spare_attempts:
            spare += "; once they are spent, the model is released unfinished"
        self._show(f"round {round_}: attempt {attempt} was lost ({why}); trying again; {spare}")

    def round(self, report: RoundReport) -> None:
        self._rows.append(report)
        self._note = ""
        left = time_left(self._rows, self._study.optimisation.rounds)
        self._bar.update(self._job, completed=report.round, left=left)
        now, last = time.monotonic(), report.round == self._study.optimisation.rounds
        if self._live is None and (report.metrics or last or now - self._printed > 5):
            self._printed = now
            self._console.print(plain_line(report, self._study, left), soft_wrap=True)

    def finish(self, outcome: Outcome) -> None:
        self._note = ""

    def _show(self, note: str) -> None:
        if note and note != self._note and self._live is None:
            self._console.print(Text(printable(note)))
        self._note = note

    def _view(self) -> Group:
        table = Table(box=None, pad_edge=False)
        asked = self._study.privacy.epsilon
        epsilon = "epsilon" if asked is None else f"epsilon of {asked:g}"
        for heading in ("round", *COLUMNS.values(), epsilon, "sites", "s", "kB"):
            table.add_column(heading, justify="right")
        scored = [row for row in self._rows if row.metrics]
        shown = scored[-SHOWN:] if len(scored) > 1 else self._rows[-SHOWN:]
        for row in shown:
            table.add_row(*cells(row, len(self._study.roster)))
        return Group(table, self._bar, Text(printable(self._note), style="yellow"))


def time_left(reports: list[RoundReport], rounds: int) -> str:
    """The expected time of the remaining rounds, from the median of the last 20. A round that is
    replayed (of a study that is followed again) counts with the time that it took."""
    remaining = rounds - reports[-1].round
    if remaining <= 0:
        return ""
    seconds = remaining * median(report.seconds for report in reports[-20:])
    if seconds < 120:
        return f"{seconds:.0f} s left"
    return f"{seconds / 60:.0f} min left" if seconds < 7200 else f"{seconds / 3600:.1f} h left"


def cells(report: RoundReport, sites: int) -> list[str]:
    """One row of the table of rounds. sites: of the roster."""
    return [
        str(report.round),
        *(_value(report.metrics.get(name)) for name in COLUMNS),
        "" if report.epsilon is None else rounded_up(report.epsilon),
        f"{report.participants}/{sites}",
        f"{report.seconds:.2f}",
        f"{(report.bytes_sent + report.bytes_received) / 1000:.1f}",
    ]


def plain_line(report: RoundReport, study: Study, left: str) -> str:
    """One round as a line, for a log file or a pipe."""
    rounds, roster = study.optimisation.rounds, len(study.roster)
    metrics = "".join(
        f" {label} {report.metrics[name].value:.3f}"
        for name, label in COLUMNS.items()
        if name in report.metrics
    )
    epsilon = "" if report.epsilon is None else f" epsilon {rounded_up(report.epsilon)}"
    fewer = f" {report.participants}/{roster} sites" if report.participants < roster else ""
    line = f"round {report.round}/{rounds}{metrics}{epsilon}{fewer} {report.seconds:.2f} s"
    return f"{line}, {left}" if left else line


def _value(estimate: Estimate | None) -> str:
    return "" if estimate is None else f"{estimate.value:.3f}"
