"""How a finished study is shown to the person who launched it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from launch.studies.baselines import BaselineScore
from launch.studies.run import FinishedStudy
from protocol.privacy.epsilon_text import rounded_up
from protocol.privacy.releases import assumption
from protocol.terminal.printable import printable

_NAMES = {
    "auc": "ROC AUC",
    "average_precision": "average precision",
    "accuracy": "accuracy at 0.5",
    "brier": "Brier score",
    "log_loss": "log loss",
    "sensitivity_at_specificity_90": "sensitivity at 90% specificity",
}


def show(finished: FinishedStudy, console: Console) -> None:
    """Pooled figures with intervals, privacy spent, and where everything lies."""
    outcome = finished.outcome
    title = Text(printable(outcome.study.title))
    table = Table(title=title, title_justify="left", box=None)
    for heading in ("pooled over all sites", "value", "95% interval"):
        table.add_column(heading, justify="left" if heading[0] == "p" else "right")
    for key, name in _NAMES.items():
        if key in outcome.metrics:
            metric = outcome.metrics[key]
            table.add_row(name, f"{metric.value:.3f}", f"{metric.low:.3f} to {metric.high:.3f}")
    if not outcome.study.evaluation.takes_place:
        table.add_row("not evaluated within the study", "", "")
    console.print(table)
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


def show_comparison(rows: Sequence[BaselineScore], console: Console) -> None:
    """Federated beside one hospital alone and all data pooled, and what that gains over a score
    that needed no data at all."""
    table = Table(title="Was federating worth it?", title_justify="left", box=None)
    table.add_column("trained on")
    for heading in ("AUC", "lowest and highest", "accuracy"):
        table.add_column(heading, justify="right")
    for row in rows:
        several = row.which == "local"
        spread = f"{row.lowest_auc:.3f} to {row.highest_auc:.3f}" if several else ""
        table.add_row(row.name, f"{row.auc:.3f}", spread, f"{row.accuracy:.3f}")
    console.print(table)
    aucs = {row.which: row.auc for row in rows}
    if "public" in aucs and "federated" in aucs:
        console.print(
            f"Gain over the public score: {aucs['federated'] - aucs['public']:+.3f} AUC.",
            highlight=False,
        )
    if few := sum(row.untrained for row in rows):
        console.print(
            f"{few} alone had too few patients for anything to be learned at this epsilon: the "
            "model it began with counts.",
            highlight=False,
        )
