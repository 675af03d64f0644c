"""studies, show, approve, reject, revoke, permit: how a person decides about a study.

All of them work beside a running daemon, which reads the decisions before every answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client.approver.languages import Language, Say, english, spoken
from client.cli.options import HERE, Config, Digest, governing, print_facts
from protocol.errors import Code, WardroundError
from protocol.study.states import StudyState
from protocol.terminal.command_line import Json, Yes, confirm, console, print_json, print_result
from protocol.terminal.printable import printable

if TYPE_CHECKING:
    from rich.console import Console

    from client.governance.approvals import Approvals
    from client.governance.governance import SiteGovernance
    from client.governance.ledger_rows import StudyStatus
    from protocol.study.study import Study

_SHORT = 12
"""Digits of a digest in tables."""
Reason = Annotated[str, typer.Option(help="Kept in this site's books, shown to nobody else.")]


def studies(config: Config = HERE, as_json: Json = False) -> None:
    """List every study this site was asked to take part in, and where it stands.

    To see what waits for you. waiting: needs your decision. running: answered within the rules.
    refused: site.yaml or the budget says no. rejected, revoked: you said no. paused, failed: it may
    go on. expired: the rest of its plan is released. finished, cancelled: it has ended.

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
        said_no = study.life is StudyState.PROPOSED  # refused, rejected or revoked: by whom
        word = study.state if said_no else study.life.value
        standing = word if study.code is None else f"{word} ({study.code})"
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


def show(
    study: Digest,
    config: Config = HERE,
    language: Annotated[
        Language, typer.Option(help="The language of the page: en (English) or fr (French).")
    ] = "en",
    as_json: Json = False,
) -> None:
    """Show a study in plain words: who, why, which patients, how private, what budget is left.

    Before you approve or reject it. It is one page, which a data protection officer can read.

    Example: wardround-site show 3f1c2a9b --language fr
    """
    with governing(config, "show", study=study[:64]) as site:
        record, state = site.approvals.find(study)
        summary = _summary(site.approvals, record, spoken(language))
    if as_json:
        answer = {"digest": record.digest, "state": state, "study": json.loads(record.document)}
        print_json(answer | {"words": dict(summary)})
    else:
        _print(record, state, summary, console(), spoken(language))


def approve(study: Digest, config: Config = HERE, yes: Yes = False, as_json: Json = False) -> None:
    """Accept a study; its whole plan is set aside from the budget at once.

    For a study that waits, and also for one that was rejected or revoked before. What site.yaml
    forbids cannot be approved.

    Example: wardround-site approve 3f1c2a9b
    """
    with governing(config, "approve", study=study[:64]) as site:
        record, state = site.approvals.find(study)
        if not yes:
            _print(record, state, _summary(site.approvals, record), console(stderr=as_json))
        confirm("Approve this study?", yes)
        site.approvals.approve(record)
        _done(record.digest, "accepted", as_json)
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
    with _confirmed("reject", study, config, yes) as (approvals, record):
        approvals.reject(record, reason=reason)
        _done(record.digest, "rejected", as_json)


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
    with _confirmed("revoke", study, config, yes) as (approvals, record):
        approvals.revoke(record, reason=reason)
        _done(record.digest, "revoked", as_json)


def permit(study: Digest, config: Config = HERE, yes: Yes = False, as_json: Json = False) -> None:
    """Permit sums without noise over a study's roster or patients, though others had them before.

    Whoever has exact sums over two rosters can subtract them, and learns what the hospitals by
    which these differ added: ask those hospitals first. It holds for this roster from now on. An
    exact analysis may then also work on other patients than those before it: by subtraction, the
    patients by which the two differ show. The study itself is decided about as before, when it is
    proposed again or approved.

    Example: wardround-site permit 3f1c2a9b
    """
    with governing(config, "permit", study=study[:64]) as site:
        record, _ = site.approvals.find(study)
        revealed = site.approvals.revealed_by_subtraction(record)
        if not revealed and record.exact is None:
            raise WardroundError(
                Code.USAGE,
                "This study's roster needs no permission.",
                remedy=f"Run `wardround-site show {record.digest[:_SHORT]}` to see what it needs.",
            )
        whose = [f"these hospitals: {', '.join(revealed)}"] if revealed else []
        if record.exact is not None:
            whose.append("the patients by which its row set differs from earlier ones")
        of = f"data could be computed of {' and of '.join(whose)}."
        typer.echo(f"By subtraction, {of}", err=True)
        confirm("Permit these exact sums?", yes)
        site.approvals.permit_roster(record)
    done = f"Permitted. By subtraction, {of}"
    print_result(done, {"revealed": revealed}, as_json)


@contextmanager
def _confirmed(verb: str, study: str, config: Path, yes: bool) -> Iterator[tuple[Approvals, Study]]:
    """The site's approvals and the study, once the operator has seen which one it is."""
    with governing(config, verb, study=study[:64]) as site:
        record, _ = site.approvals.find(study)
        confirm(f'{verb.capitalize()} "{printable(record.title)}"?', yes)
        yield site.approvals, record


def _warn_of_old_rules(site: SiteGovernance) -> None:
    """Warns of a daemon that was started with other rules, and refuses what these accept."""
    from client.daemon.status import read, running

    folder = site.config.state
    now = read(folder) if running(folder) else None
    if now is not None and now.rules != site.policy.digest:
        typer.echo("site.yaml has changed: restart the daemon, or it will refuse.", err=True)


def _summary(approvals: Approvals, study: Study, say: Say = english) -> list[tuple[str, str]]:
    from client.approver.study_page import summarise
    from tasks import registry

    installed = study.task.name in registry.installed()
    schema = registry.load(study.task.name).schema if installed else None
    return summarise(approvals, study, schema, say)


def _print(
    study: Study,
    state: StudyStatus,
    summary: list[tuple[str, str]],
    screen: Console,
    say: Say = english,
) -> None:
    print_facts([(say("Study"), study.digest), (say("Standing"), state), *summary], screen)


def _done(digest: str, state: str, as_json: bool) -> None:
    print_result(f"{digest[:_SHORT]} is {state}.", {"digest": digest, "state": state}, as_json)
