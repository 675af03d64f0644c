"""How a finished study is shown to the person who launched it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from launch.studies.baselines import BaselineScore
from launch.studies.run import FinishedStudy
from protocol.outcomes.estimates import Estimate, shown
from protocol.outcomes.kinds import HEADINGS
from protocol.privacy.epsilon_text import rounded_up
from protocol.privacy.releases import assumption
from protocol.terminal.printable import printable
from server.outcome import Outcome

_MOST_CLASSES = 12
"""Of a confusion matrix that fits a terminal."""


def show(finished: FinishedStudy, console: Console) -> None:
    """Pooled figures with intervals, privacy spent, and where everything lies."""
    outcome = finished.outcome
    title = Text(printable(outcome.study.title))
    table = Table(title=title, title_justify="left", box=None)
    for heading in ("pooled over all sites", "value", "95% interval"):
        table.add_column(heading, justify="left" if heading[0] == "p" else "right")
    for name, metric in outcome.study.outcome.metrics.items():
        if metric.label and name in outcome.metrics:
            of = outcome.metrics[name]
            table.add_row(metric.label, shown(of.value), f"{shown(of.low)} to {shown(of.high)}")
    if not outcome.study.evaluation.takes_place:
        table.add_row("not evaluated within the study", "", "")
    console.print(table)
    if 0 < len(outcome.confusion) <= _MOST_CLASSES:
        console.print(_confusion(outcome))
    if outcome.subgroups:
        console.print(_subgroups(outcome))
    privacy = outcome.study.privacy
    if outcome.epsilon is not None:
        line = f"epsilon {rounded_up(outcome.epsilon)} at delta {privacy.delta:g}"
        if outcome.epsilon_broken is not None and outcome.study.shares_noise:
            line += f" ({rounded_up(outcome.epsilon_broken)} if secure aggregation were broken)"
        console.print(line, highlight=False)
        console.print(assumption(outcome.study), highlight=False)
    if outcome.uncovered:
        console.print(Text(printable(outcome.uncovered), style="yellow"))
    rounds, sites = len(outcome.rounds), len(outcome.study.roster)
    console.print(
        f"{sites} sites, {rounds} rounds, {outcome.seconds:.1f} s, "
        f"{outcome.bytes_sent / 1e6:.2f} MB sent, {outcome.bytes_received / 1e6:.2f} MB received",
        highlight=False,
    )
    console.print(Text(printable(f"study {outcome.study.digest[:12]}: {finished.folder}")))
    if finished.receipt.url:
        console.print(Text(printable(f"MLflow: {finished.receipt.url}")), soft_wrap=True)
    if finished.receipt.model:
        signer = finished.receipt.signer
        said = f"signed by {signer}" if signer else "not signed: no coordinator ran this study"
        console.print(Text(printable(f"model {finished.receipt.model}, {said}")), soft_wrap=True)
    if finished.receipt.missing:
        missing = ", ".join(finished.receipt.missing)
        said = printable(f"Not in MLflow yet: {missing}. {finished.receipt.remedy}")
        console.print(Text(said, style="yellow"))
    if finished.baselines:
        show_comparison(finished.baselines, console)


def _subgroups(outcome: Outcome) -> Table:
    """The first figure of each level."""
    kind = outcome.study.outcome
    first = kind.compared[0]
    table = Table(title="by subgroup", title_justify="left", box=None)
    for heading in ("", "patients", kind.metrics[first].label, "95% interval"):
        table.add_column(heading, justify="right" if heading else "left")
    for by in outcome.subgroups:
        for level in by.levels:
            count = "not shown" if level.patients is None else f"{level.patients.value:.0f}"
            of = level.metrics.get(first)
            figures = ("", "") if of is None else (shown(of.value), _interval(of))
            table.add_row(Text(printable(f"{by.name}: {level.level}")), count, *figures)
    return table


def _interval(of: Estimate) -> str:
    return f"{shown(of.low)} to {shown(of.high)}"


def _confusion(outcome: Outcome) -> Table:
    """Patients by their own label and by the likeliest one."""
    noised = ", with noise" if outcome.study.evaluation.noised else ""
    table = Table(title=f"patients{noised}", title_justify="left", box=None)
    table.add_column("label")
    for label in range(len(outcome.confusion)):
        table.add_column(f"said {label}", justify="right")
    for label, row in enumerate(outcome.confusion):
        table.add_row(str(label), *(f"{count:.0f}" for count in row))
    return table


def show_comparison(rows: Sequence[BaselineScore], console: Console) -> None:
    """Federated beside one hospital alone and all data pooled, and what that gains over a score
    that needed no data at all."""
    if not rows:
        return
    table = Table(title="Was federating worth it?", title_justify="left", box=None)
    table.add_column("trained on")
    first, second = (HEADINGS[name] for name in rows[0].figures)
    for heading in (first, "lowest and highest", second):
        table.add_column(heading, justify="right")
    for row in rows:
        several = row.which == "local"
        spread = f"{shown(row.lowest)} to {shown(row.highest)}" if several else ""
        main, beside = (shown(value) for value in row.figures.values())
        table.add_row(row.name, main, spread, beside)
    console.print(table)
    main_of = {row.which: row.figures[row.first] for row in rows}
    if "public" in main_of and "federated" in main_of:
        gain = main_of["federated"] - main_of["public"]
        console.print(f"Gain over the public score: {gain:+.3f} {first}.", highlight=False)
    if few := sum(row.untrained for row in rows):
        console.print(
            f"{few} alone had too few patients for anything to be learned at this epsilon: the "
            "model it began with counts.",
            highlight=False,
        )
