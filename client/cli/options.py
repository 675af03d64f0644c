"""What the commands share: options, access to the site, progress bars and tables."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from protocol.errors import WardroundError
from protocol.terminal.command_line import console
from protocol.terminal.printable import printable

if TYPE_CHECKING:
    from rich.console import Console

    from client.config.site_config import SiteConfig
    from client.governance.governance import SiteGovernance

Config = Annotated[
    Path,
    typer.Option(
        "--config",
        "-c",
        envvar="WARDROUND_SITE",
        help="site.yaml, or the folder that holds it.",
        show_default="./site.yaml",
    ),
]
Digest = Annotated[str, typer.Argument(help="The study's digest, or its first digits (4 or more).")]
HERE = Path("site.yaml")


def config_path(path: Path) -> Path:
    return path / "site.yaml" if path.is_dir() else path


def load(path: Path) -> SiteConfig:
    from client.config.site_config import SiteConfig

    return SiteConfig.load(config_path(path))


@contextmanager
def governing(path: Path, command: str | None, **fields: str) -> Iterator[SiteGovernance]:
    """Opens the site's governance, also beside a running daemon, and records `command` in the audit
    log unless it is None. Where nothing can be written (a full disk, an older copy), reading works.
    """
    from client.governance.governance import SiteGovernance

    config = load(path)
    governance = SiteGovernance(config, config.load_identity())
    try:
        if command is not None:
            _note(governance, command, **fields)
        yield governance
    finally:
        governance.close_state()


def _note(governance: SiteGovernance, command: str, **fields: str) -> None:
    """Records who ran which command. What the command changes has an entry of its own."""
    from client.governance.audit_replay import AuditEvent

    try:
        governance.audit.append(AuditEvent.OPERATOR, command=command, uid=os.getuid(), **fields)
    except WardroundError as error:
        typer.echo(f"Not noted in the audit log: {printable(error.message)}", err=True)


@contextmanager
def progress_bars() -> Iterator[Callable[[str, int, int], None]]:
    """Yields a function of (stage, steps done, steps in all), which shows a bar for each stage."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Remaining())
    with Progress(*columns, transient=True, console=console(stderr=True)) as progress:
        bars: dict[str, Any] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in bars:
                bars[stage] = progress.add_task(stage, total=total)
            progress.update(bars[stage], completed=done, total=total)

        yield show


def print_facts(facts: Iterable[tuple[str, str]], screen: Console) -> None:
    """Prints names and values as a table of two columns."""
    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(name, printable(value))
    screen.print(table)
