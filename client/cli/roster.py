"""The other hospitals' keys: which are known here, and which were compared by telephone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from client.cli.options import HERE, Config, governing
from protocol.errors import Code, WardroundError, unwritable
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


@app.command("rotate")
def rotate_keys(
    config: Config = HERE,
    identity: Annotated[
        bool, typer.Option("--identity", help="A new identity key, for studies to come.")
    ] = False,
    node_key: Annotated[
        bool, typer.Option("--node-key", help="A new key to sign in with.")
    ] = False,
    out: Annotated[Path, typer.Option(help="A new file for the signed card.")] = Path("card.json"),
    as_json: Json = False,
) -> None:
    """Make new keys for this site, and the signed card for the coordinator's operator.

    At any time; no study is lost. The daemon goes on with the old keys, changes to the new node key
    by itself once the coordinator took it, and uses the new identity in studies that begin later.
    Send the card, for `wardround coordinator rotate`. Back up the keys.

    Example: wardround-site roster rotate --identity --node-key --out card.json
    """
    from client.enrolment.rotation import rotate

    if not (identity or node_key):
        raise WardroundError(
            Code.USAGE, "No key is named.", remedy="Give --identity, --node-key or both."
        )
    fields = {"identity": str(identity), "node_key": str(node_key)}
    with governing(config, "roster rotate", **fields) as governance:
        card = rotate(governance.config, identity=identity, node_key=node_key)
    try:
        out.write_text(card.model_dump_json(indent=2, exclude_none=True) + "\n", encoding="utf-8")
    except OSError as error:
        raise unwritable(out, error) from None
    prints = {"identity": card.identity_fingerprint, "node_key": card.node_fingerprint}
    print_result(f"Written to {out}.", {"file": out, "fingerprints": prints}, as_json)


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
