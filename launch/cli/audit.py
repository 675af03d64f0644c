"""`wardround audit`: does the training code keep the epsilon that a study states?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from client.cli.options import progress_bars
from launch.cli.run import Overrides
from protocol.models.audit_effort import CANARIES, RUNS
from protocol.terminal.command_line import Json, console, print_json
from protocol.terminal.printable import printable


def audit_command(
    overrides: Overrides = None,
    runs: Annotated[int, typer.Option(help="Releases of each of two neighbouring data sets.")] = (
        RUNS
    ),
    canaries: Annotated[int, typer.Option(help="Canaries of the audit in one run.")] = CANARIES,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the report (left out: audit/ in the study's folder)."),
    ] = None,
    study: Annotated[
        Path | None,
        typer.Option(help="A study.json, audited as it is; overrides then name tracking alone."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Attack a study's own training code, and compare what leaks with the epsilon it states.

    Overrides as for `run`, on public or synthetic data. Three audits: many releases of two
    data sets that differ by one patient, on honest weights and on weights that a hostile
    coordinator would send; one whole run with canaries among the patients; a membership attack on
    the final model, for the reader. The first two give a lower bound of epsilon, with 99.99%
    confidence, and an estimate. A bound above the stated epsilon means that the claim is broken:
    the command then ends with status 70.

    It takes a minute or two for a linear model, and time in proportion to --runs for larger ones.
    audit.md says which audit sees which fault. Where tracking.uri names an MLflow server, a run of
    its own there carries the report: its files, and every figure as a metric.

    With --study, a study of a federation is audited as its hospitals run it, on its task's public
    data: what a reviewer shows where the study's gates ask for an audit.

    Example: wardround audit task=heart_disease privacy.epsilon=1 rounds=3
    """
    from launch.config import compose

    config = compose.load(overrides or [])
    from client.privacy_audit.report import membership_in_words, table
    from launch.studies.audit import audit

    with progress_bars() as show:
        saved = audit(config, runs, canaries, show, out, study)
    report = saved.report
    if as_json:
        print_json(report.as_json())
    else:
        screen = console()
        screen.print(table(report))
        if report.membership is not None:
            screen.print(membership_in_words(report.membership))
        screen.print(printable(f"Report: {saved.folder}/audit.md"), soft_wrap=True)
        if saved.url:
            screen.print(printable(f"MLflow: {saved.url}"), soft_wrap=True)
    saved.require()
