"""The other hospitals' keys: which are known here, and which were compared by telephone."""

from __future__ import annotations

from typing import Annotated

import typer

from client.cli.options import HERE, Config, governing
from protocol.terminal.command_line import (
    CommandLine,
    Json,
    Yes,
    confirm,
    console,
    print_json,
    print_result,
)

app = CommandLine("The other hospitals' keys, and which of them were compared by telephone.")


@app.command("list")
def list_sites(config: Config = HERE, as_json: Json = False) -> None:
    """Show every hospital's fingerprint, and whether its key was confirmed here.

    Whenever `status` says that a hospital waits to be confirmed, or a key was revoked.

    Example: wardround-site roster list
    """
    from rich.table import Table

    from protocol.identity import fingerprint

    with governing(config, None) as governance:
        known = governance.roster.now()
    waiting = known.to_confirm()
    sites = {
        site: {
            "fingerprint": fingerprint(bytes.fromhex(key)),
            "confirmed": site not in waiting,
            "revoked": key in known.history.revoked,
        }
        for site, key in sorted({**known.confirmed, **known.history.keys}.items())
    }
    if as_json:
        print_json({"sites": sites, "version": known.history.version, "trouble": known.trouble})
        return
    table = Table("site", "fingerprint of its identity", "", box=None)
    for site, facts in sites.items():
        state = "revoked" if facts["revoked"] else "" if facts["confirmed"] else "NOT CONFIRMED"
        table.add_row(site, str(facts["fingerprint"]), state)
    console().print(table)
    if known.trouble:
        typer.echo(f"Refused: {known.trouble}")


@app.command("confirm")
def confirm_site(
    site: Annotated[str, typer.Argument(help="A hospital that `roster list` names.")],
    config: Config = HERE,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Confirm a hospital's key, once its fingerprint was compared by telephone.

    One call to each newcomer. A running daemon adds up with it from now on; until then it goes on
    with the others. --yes says that you have compared the fingerprint.

    Example: wardround-site roster confirm st-mary
    """
    from protocol.identity import fingerprint

    with governing(config, "roster confirm", site=site) as governance:
        key = governance.roster.key_to_confirm(site)
        shown = fingerprint(bytes.fromhex(key))
        typer.echo(f"{site}  {shown}", err=True)
        confirm("Has the hospital read the same fingerprint to you over the telephone?", yes)
        governance.roster.confirm(site, key)
    print_result(f"{site} is confirmed.", {"site": site, "fingerprint": shown}, as_json)
