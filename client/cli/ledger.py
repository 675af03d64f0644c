"""ledger: what was spent on this site's patients, what is left; its plot, backup, restore."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client.cli.options import (
    HERE,
    Config,
    Json,
    Yes,
    confirm,
    console,
    governing,
    load,
    printable,
)
from protocol.errors import Code, WardroundError

if TYPE_CHECKING:
    from client.governance.budget import Budget
    from client.governance.governance import SiteGovernance
    from protocol.study.study import Study

app = typer.Typer(no_args_is_help=False)
_PICTURES = (".png", ".svg", ".pdf")


@app.callback(invoke_without_command=True)
def ledger(
    context: typer.Context,
    config: Config = HERE,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the spending over time: .png, .svg or .pdf.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the privacy ledger: what was spent, by which study, and what is left.

    Epsilon bounds what anyone can learn about one patient of this site. `spent` composes all that
    was ever debited; `reserved` adds what open studies may still spend; nothing is given back.
    """
    if context.invoked_subcommand is not None:
        return
    if plot is not None and plot.suffix not in _PICTURES:
        raise WardroundError(
            Code.USAGE, f"--plot {plot} is no picture.", remedy=f"Use {', '.join(_PICTURES)}."
        )
    from client.governance.budget import budget

    with governing(config, "ledger") as site:
        account = budget(site.state, site.policy)
        if plot is not None:
            _plot(site, plot)
    if as_json:
        typer.echo(json.dumps(asdict(account)))
    else:
        _print(account)


@app.command()
def acknowledge(
    config: Config = HERE,
    lost: Annotated[
        list[Path] | None,
        typer.Option(help="study.json of a study that the copy may lack. May be repeated."),
    ] = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Go on with an older copy of the ledger, or after the clock was ahead.

    Nobody knows what was spent after the copy was made. So every study open in it is charged in
    full and revoked, and so are those that you name with --lost (the coordinator's history lists
    what this site took part in).
    """
    studies = [_study(path) for path in lost or []]
    confirm("Charge every open study of an older copy in full?", yes)
    with governing(config, "ledger acknowledge") as site:
        charged = site.ledger.acknowledge(studies)
    if as_json:
        typer.echo(json.dumps({"charged": charged}))
    else:
        typer.echo("Acknowledged. Charged in full: " + (", ".join(map(printable, charged)) or "-"))


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(help="A file that is not there yet, in a 0700 folder.")],
    config: Config = HERE,
) -> None:
    """Copy the ledger and the audit log to FILE while the daemon runs.

    Keep it with the keys and state/split.key. To restore: stop the daemon, put FILE in place of
    state/state.sqlite (and remove state.sqlite-wal and -shm), run `ledger acknowledge`.
    """
    file = file.absolute()
    if file.exists():
        raise WardroundError(
            Code.USAGE, f"{file} exists already.", remedy="A backup never overwrites another."
        )
    with governing(config, "ledger backup") as site:
        site.state.backup(file)
    typer.echo(f"Written to {file}. Keep {load(config).state / 'split.key'} with it.")


def _plot(site: SiteGovernance, path: Path) -> None:
    from rich.console import Console
    from rich.progress import Progress

    from client.cli.budget_plot import plot_budget

    with Progress(transient=True, console=Console(stderr=True)) as progress:
        bar = progress.add_task("composing", total=None)
        plot_budget(
            site.ledger, path, lambda done, all_: progress.update(bar, completed=done, total=all_)
        )
    typer.echo(f"Drawn in {path}.", err=True)


def _print(account: Budget) -> None:
    from rich.table import Column, Table

    table = Table(Column("study", no_wrap=True), "standing", "trained", "evaluated", box=None)
    for heading in ("epsilon", "of planned", "title"):
        table.add_column(heading)
    for row in account.studies:
        exact = f" (exact: {', '.join(row.exact)})" if row.exact else ""
        table.add_row(
            row.digest[:12],
            row.state,
            f"{row.trained[0]}/{row.trained[1]}",
            f"{row.evaluated[0]}/{row.evaluated[1]}",
            f"{row.epsilon:.3g}{exact}",
            f"{row.planned_epsilon:.3g}",
            printable(row.title)[:50],
        )
    screen = console()
    if account.studies:
        screen.print(table)
        screen.print()
    screen.print(f"At delta {account.delta:g}, for the patient touched most:")
    screen.print(f"  spent     epsilon {account.spent:.4g}")
    screen.print(f"  reserved  epsilon {account.reserved:.4g}  (spent, and what is open)")
    if account.cap is not None and account.left is not None:
        screen.print(f"  left      epsilon {account.left:.4g} of {account.cap:g}, at least")
    else:
        screen.print("  left      nothing: policy.epsilon_lifetime is not set")


def _study(path: Path) -> Study:
    from protocol.study.study import Study

    try:
        return Study.parse(path.read_bytes())
    except OSError as error:
        raise WardroundError(Code.USAGE, f"{path} cannot be read: {error.strerror}.") from None
