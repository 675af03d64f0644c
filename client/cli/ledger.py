"""ledger: the privacy budget, spent and left; its plot, backup and restore."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client.cli.options import HERE, Config, governing, load, progress_bars
from protocol.errors import Code, WardroundError, unwritable
from protocol.privacy.epsilon_text import rounded_down, rounded_up
from protocol.terminal.command_line import (
    CommandLine,
    Json,
    Yes,
    confirm,
    console,
    print_json,
    print_result,
    refuse_early_options,
)
from protocol.terminal.printable import printable

if TYPE_CHECKING:
    from client.config.site_config import SiteConfig
    from client.governance.budget import Budget, StudySpending
    from client.governance.governance import SiteGovernance
    from protocol.study.study import Study

app = CommandLine(bare=True)
_CLOCKS = timedelta(days=1)
"""By which the clocks of this site and of its coordinator may differ."""
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

    Before you approve a study, and for whoever audits this site. Epsilon bounds what anyone can
    learn about one patient of this site. `spent` composes all that was ever debited; `reserved`
    adds what open studies may still spend; nothing is given back.

    Example: wardround-site ledger --plot spending.png
    """
    if context.invoked_subcommand is not None:
        refuse_early_options(context)
        return
    if plot is not None and plot.suffix not in _PICTURES:
        raise WardroundError(
            Code.USAGE, f"--plot {plot} is no picture.", remedy=f"Use {', '.join(_PICTURES)}."
        )
    from client.governance.budget import budget, spending_by_study

    with governing(config, "ledger") as site:
        account = budget(site.state, site.policy)
        studies = spending_by_study(site.state, site.policy, _progress_lines())
        if plot is not None:
            _plot(site, account, plot)
    if as_json:
        print_json(asdict(account) | {"studies": [asdict(study) for study in studies]})
    else:
        _print(account, studies)


@app.command()
def acknowledge(
    config: Config = HERE,
    history: Annotated[
        Path | None,
        typer.Option(help="The coordinator's signed history of this site, for an older copy."),
    ] = None,
    lost: Annotated[
        list[Path] | None,
        typer.Option(help="study.json of a study that the copy may lack. May be repeated."),
    ] = None,
    none_since: Annotated[
        bool,
        typer.Option("--none-since", help="Nothing was accepted here since the copy was made."),
    ] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Confirm what was accepted since an older copy of the ledger, or a clock that was ahead.

    When every command refuses because the ledger is older than the audit log: after a backup was
    put back. Nobody knows what was spent since then, so every study open in it is charged in full
    and revoked, and so are those of the coordinator's history (which can only add some) and those
    that you name with --lost. Until then this site answers nothing.

    Example: wardround-site ledger acknowledge --history north.history.json
    """
    with governing(config, "ledger acknowledge") as site:
        since = site.ledger.older_copy()
        studies = [_study(path) for path in lost or []]
        if since is not None:
            if history is not None:
                studies += _named_by(history, site.config, since)
            elif not studies and not none_since:
                raise WardroundError(
                    Code.USAGE,
                    f"The ledger is a copy of {since:%Y-%m-%d %H:%M} UTC or earlier; what was "
                    "accepted since then is not in it.",
                    remedy="Ask the coordinator's operator for `wardround coordinator history "
                    f"{site.config.site}`, and give it with --history; without a coordinator, name "
                    "each study with --lost, or --none-since.",
                )
            for study in studies:
                typer.echo(f"  {study.digest[:12]}  {printable(study.title)}", err=True)
            confirm(
                f"Was nothing else accepted here since {since:%Y-%m-%d %H:%M} UTC? What is listed "
                "and what is open is charged in full.",
                yes,
            )
        charged = site.ledger.acknowledge(studies)
    done = "Acknowledged. Charged in full: " + (", ".join(map(printable, charged)) or "-")
    print_result(done, {"charged": charged}, as_json)


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(help="A file that is not there yet, in a 0700 folder.")],
    config: Config = HERE,
    as_json: Json = False,
) -> None:
    """Copy the ledger and the audit log to FILE while the daemon runs.

    Daily, to another machine. Keep it with the keys and state/split.key. To restore: stop the
    daemon, put FILE in place of state/state.sqlite (and remove state.sqlite-wal and -shm), run
    `wardround-site ledger acknowledge`.

    Example: wardround-site ledger backup /backup/monday.sqlite
    """
    file = file.absolute()
    if file.exists():
        raise WardroundError(
            Code.USAGE,
            f"{file} exists already.",
            remedy="Name a new file: a backup never overwrites another.",
        )
    if not file.parent.is_dir():
        raise WardroundError(
            Code.USAGE,
            f"There is no folder {file.parent}.",
            remedy=f"Make it, for this site's user alone: mkdir -m 700 {file.parent}",
        )
    with governing(config, "ledger backup") as site:
        site.state.backup(file)
    key = load(config).state / "split.key"
    done = f"Written to {file}. Keep {key} with it."
    print_result(done, {"file": file, "keep_with_it": key}, as_json)


def _progress_lines() -> Callable[[int, int], None]:
    """Says every five seconds how many studies are composed: after an upgrade it takes minutes."""
    reported = time.monotonic()

    def report(done: int, studies: int) -> None:
        nonlocal reported
        if time.monotonic() - reported > 5:
            reported = time.monotonic()
            typer.echo(f"Composed {done} of {studies} studies.", err=True)

    return report


def _plot(site: SiteGovernance, account: Budget, path: Path) -> None:
    from client.cli.budget_plot import plot_budget
    from client.governance.budget import history

    with progress_bars() as show:
        try:
            debits = history(site.state)
            plot_budget(account, debits, site.policy, path, partial(show, "composing"))
        except OSError as error:
            raise unwritable(path, error) from None
    typer.echo(f"Drawn in {path}.", err=True)


def _print(account: Budget, studies: Sequence[StudySpending]) -> None:
    from rich.table import Column, Table

    table = Table(Column("study", no_wrap=True), "standing", "trained", "evaluated", box=None)
    for heading in ("epsilon", "of planned", "title"):
        table.add_column(heading)
    for row in studies:
        exact = f" (exact: {', '.join(row.exact)})" if row.exact else ""
        table.add_row(
            row.digest[:12],
            row.state,
            f"{row.trained[0]}/{row.trained[1]}",
            f"{row.evaluated[0]}/{row.evaluated[1]}",
            f"{rounded_up(row.epsilon)}{exact}",
            rounded_up(row.planned_epsilon),
            printable(row.title)[:50],
        )
    screen = console()
    if studies:
        screen.print(table)
        screen.print()
    screen.print(f"At delta {account.delta:g}, for the patient touched most:")
    screen.print(f"  spent     epsilon {rounded_up(account.spent)}")
    screen.print(f"  reserved  epsilon {rounded_up(account.reserved)}  (spent, and what is open)")
    if account.cap is not None and account.left is not None:
        screen.print(
            f"  left      epsilon {rounded_down(account.left)} of {account.cap:g}, at least"
        )
    else:
        screen.print("  left      nothing: policy.epsilon_lifetime is not set")
    screen.print("Sums without noise, each of which can show one patient:")
    screen.print(f"  released  {account.exact} of {account.exact_cap}, ever")
    if account.exact_public:
        screen.print(f"  public    {account.exact_public}, of data declared public or synthetic")


def _named_by(path: Path, config: SiteConfig, since: datetime) -> list[Study]:
    """The studies of the coordinator's history that may have gone on after `since`."""
    from client.config.site_roster import signing_key_file
    from protocol.wire.history import History

    try:
        key = bytes.fromhex(signing_key_file(config).read_text())
    except (OSError, ValueError):
        raise WardroundError(
            Code.IDENTITY,
            "This site does not know the key with which its coordinator signs.",
            remedy="Join with the coordinator's newest bundle first.",
        ) from None
    return History.load(path, config.site, key).since(since - _CLOCKS)


def _study(path: Path) -> Study:
    from protocol.study.study import Study

    try:
        return Study.parse(path.read_bytes())
    except OSError as error:
        raise WardroundError(
            Code.USAGE,
            f"{path} cannot be read: {error.strerror}.",
            remedy="Name the study.json that the coordinator keeps of the study.",
        ) from None
