"""audit: the signed log of what this site saw, decided, spent and sent."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from client.cli.options import HERE, Config, Json, governing
from protocol.errors import Code, WardroundError

app = typer.Typer(
    no_args_is_help=True,
    help="Verify or export the audit log: what was seen, decided, spent and sent, hash-chained "
    "and signed.",
)


@app.command()
def verify(config: Config = HERE, as_json: Json = False) -> None:
    """Check every entry's hash, link and signature, and that the ledger says the same.

    Names the first entry that was edited, removed or moved, and ends with status 7.
    """
    from rich.console import Console
    from rich.progress import Progress

    with (
        governing(config, "audit verify") as site,
        Progress(transient=True, console=Console(stderr=True)) as progress,
    ):
        bar = progress.add_task("verifying", total=None)
        entries = site.audit.verify(
            lambda done, all_: progress.update(bar, completed=done, total=all_)
        )
    if as_json:
        typer.echo(json.dumps({"entries": entries, "intact": True}))
    else:
        typer.echo(f"{entries} entries, all intact.")


@app.command()
def export(
    config: Config = HERE,
    out: Annotated[
        Path | None, typer.Option(help="A file, replaced if there; left out: standard output.")
    ] = None,
) -> None:
    """Write the log as JSON Lines, oldest first, for a SIEM. Holds no patient data.

    Send it off this machine regularly: a copy elsewhere shows even what a holder of this site's
    keys might rewrite.
    """
    with governing(config, "audit export") as site, ExitStack() as stack:
        target = sys.stdout
        if out is not None:
            try:
                target = stack.enter_context(out.open("w", encoding="utf-8"))
            except OSError as error:
                raise WardroundError(
                    Code.USAGE, f"{out} cannot be written: {error.strerror}."
                ) from None
        for line in site.audit.export():
            target.write(line + "\n")
