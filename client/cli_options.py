"""Options that several commands share, and the doors through which they reach the site."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from protocol.errors import Code, WardroundError

if TYPE_CHECKING:
    from rich.console import Console

    from client.governance import SiteGovernance
    from client.site_config import SiteConfig

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
Json = Annotated[bool, typer.Option("--json", help="For programs: one JSON document.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
HERE = Path("site.yaml")


def config_path(path: Path) -> Path:
    return path / "site.yaml" if path.is_dir() else path


def load(path: Path) -> SiteConfig:
    from client.site_config import SiteConfig

    return SiteConfig.load(config_path(path))


@contextmanager
def governing(path: Path, command: str, **fields: str) -> Iterator[SiteGovernance]:
    """The site's books, beside a running daemon; the command is noted in the audit log.

    Reading goes on where nothing can be written (a full disk, an older copy put back).
    """
    from client.governance import SiteGovernance

    config = load(path)
    governance = SiteGovernance(config, config.load_identity())
    try:
        note(governance, command, **fields)
        yield governance
    finally:
        governance.close_state()


def note(governance: SiteGovernance, command: str, **fields: str) -> None:
    """Who ran which command; commands that must be noted to count write entries of their own."""
    from client.told import Happened

    try:
        governance.audit.append(Happened.OPERATOR, command=command, uid=os.getuid(), **fields)
    except WardroundError as error:
        typer.echo(f"Not noted in the audit log: {error.message}", err=True)


def confirm(question: str, yes: bool) -> None:
    """Raises typer.Abort on a no, WardroundError(USAGE) where nobody can be asked."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise WardroundError(
            Code.USAGE, "Nobody is at the keyboard to confirm.", remedy="Repeat with --yes."
        )
    if not typer.confirm(question):
        raise typer.Abort


def console() -> Console:
    from rich.console import Console

    return Console()
