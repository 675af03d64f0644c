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
Json = Annotated[bool, typer.Option("--json", help="For programs: one JSON document.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Digest = Annotated[str, typer.Argument(help="The study's digest, or its first digits (4 or more).")]
HERE = Path("site.yaml")


def config_path(path: Path) -> Path:
    return path / "site.yaml" if path.is_dir() else path


def load(path: Path) -> SiteConfig:
    from client.config.site_config import SiteConfig

    return SiteConfig.load(config_path(path))


@contextmanager
def governing(path: Path, command: str | None, **fields: str) -> Iterator[SiteGovernance]:
    """The site's books, beside a running daemon; the command is noted in the audit log, unless it
    is None. Reading goes on where nothing can be written (a full disk, an older copy put back).
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
    """Who ran which command. What a command changes is an entry of its own, or is not changed."""
    from client.governance.audit_replay import Happened

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
    """For tables. Takes no markup from what it prints: titles come from elsewhere."""
    from rich.console import Console

    return Console(markup=False, highlight=False, emoji=False)


def printable(text: str) -> str:
    """Text from elsewhere as it may be shown: no escape sequence, nothing written backwards."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)
