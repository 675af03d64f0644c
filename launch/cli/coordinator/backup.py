"""A coordinator kept, and made again; and what a restored hospital asks of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from launch.cli.coordinator.options import HERE, Config, configuration
from protocol.terminal.command_line import Json, print_result


def backup(
    file: Annotated[Path, typer.Argument(help="A file that is not there yet.")],
    config: Config = HERE,
    as_json: Json = False,
) -> None:
    """Write the whole coordinator to FILE while it runs: keys, roster, accounts, studies.

    Daily, to another machine. The file holds the CA's key and the key that signs models: keep it as
    you keep those. MLflow is not in it.

    Example: wardround coordinator backup /backup/monday.tar.gz
    """
    from server.coordinator.operations.backup import backup as write

    write(configuration(config), file)
    print_result(f"Written to {file}. It holds private keys.", {"file": file}, as_json)


def restore(
    file: Annotated[Path, typer.Argument(help="What `wardround coordinator backup` wrote.")],
    folder: Annotated[Path, typer.Argument(help="A folder that is not there yet.")],
    as_json: Json = False,
) -> None:
    """Make a coordinator again from its backup, in a new FOLDER, also on another machine.

    When its machine is lost. Give the new machine the old name or address, and sites reconnect by
    themselves. Never run it while the old coordinator still runs.

    Example: wardround coordinator restore monday.tar.gz /srv/coordinator
    """
    from server.coordinator.operations.backup import restore as unpack

    restored = unpack(file, folder)
    print_result(
        f"The coordinator at {restored.address} is in {folder}.\n"
        f"Next: wardround coordinator start --config {folder}",
        {"address": restored.address, "folder": folder},
        as_json,
    )


def history(
    site: Annotated[str, typer.Argument(help="A hospital.")],
    out: Annotated[Path, typer.Option(help="A new file.")],
    config: Config = HERE,
    as_json: Json = False,
) -> None:
    """Write down which studies ever named a hospital, signed, for one that was restored.

    When a hospital has put its ledger back from a backup: it charges what it may have accepted
    since, by `wardround-site ledger acknowledge --history`.

    Example: wardround coordinator history north --out north.history.json
    """
    from protocol.durable_files import write
    from server.coordinator.operations.history import history as history_of
    from server.enrolment.accounts import refuse_existing

    refuse_existing(out)
    write(out, history_of(configuration(config), site))
    print_result(f"Written to {out}.", {"file": out, "site": site}, as_json)
