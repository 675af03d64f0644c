"""backup, restore: a site in one file, and again as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from client.cli.options import HERE, Config, config_path, governing
from protocol.terminal.command_line import Json, print_result


def backup(
    file: Annotated[Path, typer.Argument(help="A file that is not there yet.")],
    config: Config = HERE,
    as_json: Json = False,
) -> None:
    """Write this site's rules, keys, ledger and audit log to FILE while the daemon runs.

    Daily, to another machine. The file holds private keys and, where reports to the PACS wait,
    these: keep it as you keep such things. Data, pictures and caches are not in it.

    Example: wardround-site backup /backup/monday.tar.gz
    """
    from client.daemon.operations.backup import backup as write

    with governing(config, "backup") as site:
        write(config_path(config).parent, site.config, site.state, file)
    print_result(f"Written to {file}. It holds private keys.", {"file": file}, as_json)


def restore(
    file: Annotated[Path, typer.Argument(help="What `wardround-site backup` wrote.")],
    folder: Annotated[Path, typer.Argument(help="A folder that is not there yet.")],
    as_json: Json = False,
) -> None:
    """Make a site again from its backup, in a new FOLDER.

    When its machine is lost. The site answers nothing until you have confirmed, with `ledger
    acknowledge`, what it accepted since the backup. Never run it while the old site still works.

    Example: wardround-site restore monday.tar.gz /srv/wardround
    """
    from client.daemon.operations.backup import restore as unpack

    config = unpack(file, folder)
    print_result(
        f"Site {config.site} is in {folder}. It answers nothing yet. Next:\n"
        f"wardround-site ledger acknowledge --history HISTORY --config {folder}\n"
        f"(HISTORY: from the coordinator's operator, `wardround coordinator history "
        f"{config.site}`).",
        {"site": config.site, "folder": folder},
        as_json,
    )
