"""audit: the signed log of what this site saw, decided, spent and sent."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from client.cli.options import HERE, Config, governing, progress_bars
from protocol.errors import unwritable
from protocol.terminal.command_line import CommandLine, Json, print_json, print_result

app = CommandLine(
    "Verify or export the audit log: what was seen, decided, spent and sent, hash-chained and "
    "signed."
)


@app.command()
def verify(config: Config = HERE, as_json: Json = False) -> None:
    """Check every entry's hash, link and signature, and that the ledger says the same.

    Regularly, and whenever somebody doubts the books. Names the first entry that was edited,
    removed or moved, and then ends with status 7.

    Example: wardround-site audit verify
    """
    with governing(config, "audit verify") as site, progress_bars() as show:
        entries = site.audit.verify(partial(show, "verifying"))
    print_result(f"{entries} entries, all intact.", {"entries": entries, "intact": True}, as_json)


@app.command()
def export(
    config: Config = HERE,
    out: Annotated[
        Path | None, typer.Option(help="A file, replaced if there; left out: standard output.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the log as JSON Lines, oldest first, for a SIEM. Holds no patient data.

    Send it off this machine regularly: a copy elsewhere shows even what a holder of this site's
    keys might rewrite. With --json the log is one array; with --out too, that array is left out
    and the file is named.

    Example: wardround-site audit export --out /var/log/wardround/audit.jsonl
    """
    with governing(config, "audit export") as site, ExitStack() as stack:
        if as_json and out is None:
            print_json([json.loads(line) for line in site.audit.export()])
            return
        target = sys.stdout
        if out is not None:
            try:
                target = stack.enter_context(out.open("w", encoding="utf-8"))
            except OSError as error:
                raise unwritable(out, error) from None
        for line in site.audit.export():
            target.write(line + "\n")
    if as_json:
        print_json({"file": out})
