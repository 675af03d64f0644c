"""`wardround studies`: list, follow, pause, resume and cancel one's studies at a coordinator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from protocol.errors import Code, WardroundError
from protocol.study.states import StudyState
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
    from launch.federations.deployment import RemoteFederation

studies_app = CommandLine(
    "Studies at a coordinator: where they stand, and what is to become of them.\n\n"
    "A study that is paused, has failed or has expired goes on with [bold]resume[/], from the last "
    "round and with the attempts that are left."
)

Study = Annotated[str, typer.Argument(help="The study's digest, or its first digits.")]
Credentials = Annotated[
    Path,
    typer.Option(envvar="WARDROUND_CREDENTIALS", help="The file that the operator made for you."),
]
Address = Annotated[
    str | None,
    typer.Option(
        "--coordinator",
        envvar="WARDROUND_COORDINATOR",
        help="host:port, instead of the one in the credentials.",
    ),
]


@studies_app.command("list")
def list_command(
    credentials: Credentials, coordinator: Address = None, as_json: Json = False
) -> None:
    """List the studies that you may see, the latest first.

    proposed: hospitals are being asked. waiting: for hospitals, or for a person there. running.
    paused, failed, expired: nobody works on it, and it may be resumed. finished, cancelled: over.

    Example: wardround studies list --credentials me.json
    """
    with _remote(credentials, coordinator) as remote:
        rows = remote.studies()
    if as_json:
        print_json(rows)
        return
    if not rows:
        typer.echo("No study has been submitted yet.")
        return
    from rich.table import Table

    table = Table("study", "state", "round", "expires", "account", "title", box=None)
    for row in rows:
        state = f"{row['state']} (disk)" if row.get("paused") else row["state"]
        rounds = f"{row['round']}/{row['rounds']}"
        cells = (row["study"][:12], state, rounds, row.get("expires", ""), row["account"])
        table.add_row(*(printable(str(cell)) for cell in (*cells, row["title"])))
    console().print(table)


@studies_app.command()
def follow(
    study: Study, credentials: Credentials, coordinator: Address = None, as_json: Json = False
) -> None:
    """Show a study's rounds as they happen, until it ends or fails.

    To see how far it is, from anywhere. Ctrl-C stops watching and leaves the study alone; its
    result is fetched by `wardround run --resume STUDY federation=deployment`.

    Example: wardround studies follow 3f1c2a9b --credentials me.json
    """
    from launch.studies.progress import StudyProgress
    from protocol.document import canonical
    from protocol.study.study import Study as StudyDocument
    from server.coordinator.study_events import deliver

    with _remote(credentials, coordinator) as remote:
        digest = _digest(remote, study)
        if as_json:
            for event in remote.events(digest):
                print_json(event)
            return
        document = StudyDocument.parse(canonical(remote.study(digest)["document"]))
        with StudyProgress(document) as shown:
            for event in remote.events(digest):
                deliver(event, shown)
        _print_state(remote, digest, as_json)


@studies_app.command()
def pause(
    study: Study, credentials: Credentials, coordinator: Address = None, as_json: Json = False
) -> None:
    """Stop your study where it is, until you resume it.

    When it has to make room, or something must be looked at first. The attempt in hand is lost and
    stays charged. Hospitals keep the rest of its plan reserved until the day in `expires`.

    Example: wardround studies pause 3f1c2a9b --credentials me.json
    """
    with _remote(credentials, coordinator) as remote:
        digest = _digest(remote, study)
        remote.pause(digest)
        remote.settle(digest, lambda state: not state.works)
        _print_state(remote, digest, as_json)


@studies_app.command()
def resume(
    study: Study, credentials: Credentials, coordinator: Address = None, as_json: Json = False
) -> None:
    """Go on with your study that is paused, has failed or has expired.

    Once what stopped it is mended. Hospitals that have released the rest of its plan reserve it
    again, where their budgets allow it.

    Example: wardround studies resume 3f1c2a9b --credentials me.json
    """
    with _remote(credentials, coordinator) as remote:
        digest = _digest(remote, study)
        remote.resume(digest)
        _print_state(remote, digest, as_json)


@studies_app.command()
def cancel(
    study: Study,
    credentials: Credentials,
    coordinator: Address = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """End your study for good, and release what it has not spent.

    When it is not to go on. What it has spent stays spent. Hospitals that are away are told once
    they are back.

    Example: wardround studies cancel 3f1c2a9b --credentials me.json
    """
    with _remote(credentials, coordinator) as remote:
        digest = _digest(remote, study)
        confirm(f"Cancel {printable(remote.study(digest)['title'])}?", yes)
        remote.cancel(digest, wait=_WAIT)
        _print_state(remote, digest, as_json)


_WAIT = 10.0
"""Seconds for which a study that was told to stop is watched."""


@contextmanager
def _remote(credentials: Path, coordinator: str | None) -> Iterator[RemoteFederation]:
    from launch.federations.deployment import RemoteFederation

    with RemoteFederation(credentials.expanduser(), address=coordinator) as remote:
        yield remote


def _digest(remote: RemoteFederation, start: str) -> str:
    """The one study whose digest begins so. Raises WardroundError(USAGE)."""
    found = [str(row["study"]) for row in remote.studies() if row["study"].startswith(start)]
    if len(found) != 1 or not start:
        raise WardroundError(
            Code.USAGE,
            f"{len(found) or 'No'} studies at the coordinator begin with {start!r}.",
            remedy="`wardround studies list` names them.",
        )
    return found[0]


def _print_state(remote: RemoteFederation, digest: str, as_json: bool) -> None:
    row: dict[str, Any] = remote.study(digest)
    state = StudyState(row["state"])
    done = f"{digest[:12]} is {state}, round {row['round']} of {row['rounds']}."
    print_result(done, {"study": digest, "state": state.value}, as_json)
