"""Options that several commands share, and the doors through which they reach the site."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from protocol.errors import WardroundError
from protocol.terminal.printable import printable

if TYPE_CHECKING:
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
    """The site's books, beside a running daemon; the command is noted in the audit log, unless it
    is None. Reading still works where nothing can be written (a full disk, an older copy put back).
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
    from client.governance.audit_replay import AuditEvent

    try:
        governance.audit.append(AuditEvent.OPERATOR, command=command, uid=os.getuid(), **fields)
    except WardroundError as error:
        typer.echo(f"Not noted in the audit log: {printable(error.message)}", err=True)
