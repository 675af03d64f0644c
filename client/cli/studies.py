"""studies, show, approve, reject, revoke: a person decides about a study.

All of them work beside a running daemon, which looks at the books before every answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client.cli.options import HERE, Config, Digest, governing
from protocol.terminal.command_line import (
    CommandLine,
    Json,
    Yes,
    confirm,
    console,
    print_json,
    print_result,
)
from protocol.terminal.printable import printable

if TYPE_CHECKING:
    from rich.console import Console

    from client.cli.study_summary import Shown
    from client.governance.approvals import Approvals
    from client.governance.governance import SiteGovernance
    from client.governance.ledger_rows import StudyStatus
    from protocol.study.study import Study
    from tasks.schema import Schema

_SHORT = 12
"""Digits of a digest in tables."""
Reason = Annotated[str, typer.Option(help="Kept in this site's books, shown to nobody else.")]


def mount(app: CommandLine) -> None:
    for command in (studies, show, approve, reject, revoke):
        app.command()(command)


def studies(config: Config = HERE, as_json: Json = False) -> None:
    """List every study this site was asked to take part in, and where it stands.

    To see what waits for you. waiting: needs your decision. accepted: answered within the rules.
    refused: site.yaml or the budget says no. rejected, revoked: you said no. closed: it has ended.

    Example: wardround-site studies --json
    """
    with governing(config, "studies") as site:
        listed = site.approvals.studies()
    if as_json:
        print_json([asdict(study) for study in listed])
        return
    if not listed:
        typer.echo("No study has been proposed yet.")
        return
    from rich.table import Column, Table

    table = Table(Column("study", no_wrap=True), "standing", "task", "mode", box=None)
    for heading in ("attempts", "seen", "title"):
        table.add_column(heading)
    for study in listed:
        attempts = f"{study.attempts[0]}/{study.attempts[1]}"
        standing = study.state if study.code is None else f"{study.state} ({study.code})"
        table.add_row(
            study.digest[:_SHORT],
            standing,
            printable(study.task),
            study.mode,
            attempts,
            study.seen[:16].replace("T", " "),
            printable(study.title)[:60],
        )
    console().print(table)
    if waiting := sum(study.state == "waiting" for study in listed):
        typer.echo(f"\n{waiting} waiting. Next: wardround-site show STUDY, then approve or reject.")


def show(study: Digest, config: Config = HERE, as_json: Json = False) -> None:
    """Show a study in plain words: who, why, which patients, how private, what budget is left.

    Before you approve or reject it.

    Example: wardround-site show 3f1c2a9b
    """
    with governing(config, "show", study=study[:64]) as site:
        shown = _shown(site.approvals, *site.approvals.find(study))
    if as_json:
        document = json.loads(shown.study.document)
        answer = {"digest": shown.study.digest, "state": shown.state, "study": document}
        print_json(answer | {"words": dict(shown.lines)})
    else:
        _print(shown, console())


def approve(study: Digest, config: Config = HERE, yes: Yes = False, as_json: Json = False) -> None:
    """Accept a study; its whole plan is set aside from the budget at once.

    For a study that waits, and also for one that was rejected or revoked before. What site.yaml
    forbids cannot be approved.

    Example: wardround-site approve 3f1c2a9b
    """
    with governing(config, "approve", study=study[:64]) as site:
        found, state = site.approvals.find(study)
        if not yes:
            _print(_shown(site.approvals, found, state), console(stderr=as_json))
        confirm("Approve this study?", yes)
        site.approvals.approve(found)
        _done(found.digest, "accepted", as_json)
        _warn_of_old_rules(site)


def reject(
    study: Digest,
    config: Config = HERE,
    yes: Yes = False,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Refuse a study that waits. It stays refused until someone here approves it.

    When this site is not to take part in it.

    Example: wardround-site reject 3f1c2a9b --reason "no ethics vote"
    """
    with _confirmed("reject", study, config, yes) as (approvals, found):
        approvals.reject(found, reason=reason)
        _done(found.digest, "rejected", as_json)


def revoke(
    study: Digest,
    config: Config = HERE,
    yes: Yes = False,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Stop an accepted study at its next message. What it has spent stays spent.

    When this site is to leave a study that it took part in.

    Example: wardround-site revoke 3f1c2a9b --reason "the data was wrong"
    """
    with _confirmed("revoke", study, config, yes) as (approvals, found):
        approvals.revoke(found, reason=reason)
        _done(found.digest, "revoked", as_json)


@contextmanager
def _confirmed(verb: str, study: str, config: Path, yes: bool) -> Iterator[tuple[Approvals, Study]]:
    """The site's approvals and the study, once the operator has seen which one it is."""
    with governing(config, verb, study=study[:64]) as site:
        found, _ = site.approvals.find(study)
        confirm(f'{verb.capitalize()} "{printable(found.title)}"?', yes)
        yield site.approvals, found


def _warn_of_old_rules(site: SiteGovernance) -> None:
    """A daemon answers only for studies accepted under the rules that it started with."""
    from client.daemon.status import read, running

    folder = site.config.state
    now = read(folder) if running(folder) else None
    if now is not None and now.rules != site.policy.digest:
        typer.echo("site.yaml has changed: restart the daemon, or it will refuse.", err=True)


def _shown(approvals: Approvals, study: Study, state: StudyStatus) -> Shown:
    from client.cli.study_summary import show as in_words

    return in_words(approvals, study, state, _schema(study.task.name))


def _schema(task: str) -> Schema | None:
    """Of a task that is installed here."""
    from tasks import registry

    return registry.load(task).schema if task in registry.installed() else None


def _print(shown: Shown, screen: Console) -> None:
    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("Study", shown.study.digest)
    table.add_row("Standing", shown.state)
    for question, answer in shown.lines:
        table.add_row(question, printable(answer))
    screen.print(table)


def _done(digest: str, state: str, as_json: bool) -> None:
    print_result(f"{digest[:_SHORT]} is {state}.", {"digest": digest, "state": state}, as_json)
