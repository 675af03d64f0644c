"""audit: the signed log of what this site saw, decided, spent and sent."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from client.cli.options import HERE, Config, Digest, governing, progress_bars
from protocol.errors import unwritable
from protocol.models.audit_effort import CANARIES, RUNS
from protocol.terminal.command_line import CommandLine, Json, console, print_json, print_result

app = CommandLine(
    "Verify or export the audit log: what was seen, decided, spent and sent, hash-chained and "
    "signed; or audit the privacy that a study claims."
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


@app.command()
def privacy(
    study: Digest,
    out: Annotated[Path, typer.Option(help="Folder of the report, on this machine.")],
    config: Config = HERE,
    runs: Annotated[int, typer.Option(help="Releases of each of two data sets.")] = RUNS,
    canaries: Annotated[int, typer.Option(help="Canaries of the audit in one run.")] = CANARIES,
    as_json: Json = False,
) -> None:
    """Attack this site's own training code on its own patients, against what a study claims.

    Before you approve a new kind of study, or after an upgrade. Nothing is sent and nothing is
    spent; the report is this site's alone, since figures of an audit depend on the patients: keep
    it here. Ends with status 70 where the claim is broken.

    Example: wardround-site audit privacy 3f1c2a9b --out /var/lib/wardround/audit
    """
    from client.cohorts.loading import build_cohort
    from client.privacy_audit.audit import audit
    from client.privacy_audit.report import AuditReport, save, table
    from tasks import registry

    with governing(config, "audit privacy", study=study[:64]) as site, progress_bars() as show:
        found, _ = site.approvals.find(study)
        task = registry.load_same(found.task)
        patients = build_cohort(site.config, task, site.state.split.place, found.evaluation)
        report = AuditReport(found, audit(found, task, patients, runs, canaries, show))
    save(report, out)
    if as_json:
        print_json(report.as_json())
    else:
        console().print(table(report))
        typer.echo(f"Report: {out}/audit.md. It stays on this machine.")
    report.require()
