"""Accounts of data scientists and reviewers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launch.cli.coordinator.options import HERE, Config, configuration
from protocol.errors import unwritable
from protocol.terminal.command_line import CommandLine, Json, Yes, confirm, print_result
from protocol.terminal.printable import printable
from server.enrolment.account_terms import TOKEN_DAYS, Role

if TYPE_CHECKING:
    from server.enrolment.accounts import Accounts, Deliver

account_app = CommandLine(
    "Accounts of data scientists and reviewers: who may submit studies, and who judges models."
)
Out = Annotated[Path, typer.Option(help="A new file, readable by its owner only.")]
Days = Annotated[int, typer.Option(min=1, max=3650, help="Days until the token expires.")]


@account_app.command("add")
def account_add(
    name: Annotated[str, typer.Argument(help="Whose account, in lower case.")],
    out: Out,
    days: Days = TOKEN_DAYS,
    role: Annotated[Role, typer.Option(help="Which studies it sees.")] = "own_studies",
    config: Config = HERE,
    as_json: Json = False,
) -> None:
    """Make an account, and the credentials file that its owner gets.

    For every data scientist who may submit studies, and with --role reviewer for whoever judges
    models. Send the file by a private channel: it holds
    the only copy of the token.

    Example: wardround coordinator account add ada --out ada.json
    """
    accounts, deliver = _accounts(name, out, config)
    accounts.add(name, days, role, deliver)
    _delivered(accounts, name, out, as_json)


@account_app.command("rotate")
def account_rotate(
    name: Annotated[str, typer.Argument(help="Whose account.")],
    out: Out,
    days: Days = TOKEN_DAYS,
    role: Annotated[Role | None, typer.Option(help="Which studies it sees from now on.")] = None,
    config: Config = HERE,
    as_json: Json = False,
) -> None:
    """Give an account a new token; the old one is refused from now on, its studies continue.

    Before a token expires (`list` shows when), when others may have read it, or to change the role.

    Example: wardround coordinator account rotate ada --out ada-2.json
    """
    accounts, deliver = _accounts(name, out, config)
    accounts.rotate(name, days, role, deliver)
    _delivered(accounts, name, out, as_json)


@account_app.command("key")
def account_key(
    name: Annotated[str, typer.Argument(help="A reviewer's account.")],
    key: Annotated[str, typer.Argument(help="What `wardround review key` shows: 64 digits.")],
    config: Config = HERE,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Take a reviewer's public key, once its fingerprint has been compared by telephone.

    Before a reviewer decides for the first time, or has a new key. What the old key signed stays in
    the record. Hospitals learn of the key with the next bundle (`wardround coordinator bundle`).

    Example: wardround coordinator account key rita 5c1f...
    """
    from protocol.identity import fingerprint
    from server.enrolment.accounts import Accounts, public_key

    shown = fingerprint(public_key(key))
    typer.echo(f"fingerprint  {shown}", err=as_json)
    confirm(f"Has {printable(name)} read the same fingerprint to you over the telephone?", yes)
    Accounts(configuration(config).accounts).set_key(name, key)
    done = f"{printable(name)} decides with this key from now on."
    print_result(done, {"account": name, "key": key, "fingerprint": shown}, as_json)


@account_app.command("remove")
def account_remove(
    name: Annotated[str, typer.Argument(help="Whose account.")],
    config: Config = HERE,
    as_json: Json = False,
) -> None:
    """Refuse an account's token from now on; its studies continue.

    When somebody leaves, or when the token may have been read by others.

    Example: wardround coordinator account remove ada
    """
    from server.enrolment.accounts import Accounts

    Accounts(configuration(config).accounts).remove(name)
    print_result(f"{printable(name)} is removed.", {"removed": name}, as_json)


@account_app.command("list")
def account_list(config: Config = HERE, as_json: Json = False) -> None:
    """List the accounts: when each was made, when its token expires, which studies it sees.

    To see who may submit studies, and whose token has to be rotated soon.

    Example: wardround coordinator account list --json
    """
    from server.enrolment.accounts import Accounts

    accounts = Accounts(configuration(config).accounts).all()
    lines = (
        f"{printable(name):<24} since {account.created}  "
        f"{'expired' if account.expired() else 'expires'} {account.expires or 'never'}  "
        f"sees {account.role}"
        for name, account in accounts.items()
    )
    facts = {
        name: account.model_dump(include={"created", "expires", "role"})
        for name, account in accounts.items()
    }
    print_result("\n".join(lines) or "There are no accounts yet.", facts, as_json)


def _accounts(name: str, out: Path, config: Path) -> tuple[Accounts, Deliver]:
    """The accounts, and what writes the credentials file of one of them."""
    from server.coordinator.setup import credentials
    from server.enrolment.accounts import Accounts, issue, refuse_existing

    loaded = configuration(config)
    refuse_existing(out)

    def deliver(token: str) -> None:
        try:
            issue(out, credentials(loaded, name, token))
        except OSError as error:
            raise unwritable(out, error) from None

    return Accounts(loaded.accounts), deliver


def _delivered(accounts: Accounts, name: str, out: Path, as_json: bool) -> None:
    expires = accounts.all()[name].expires
    done = (
        f"{out} holds the only copy of the token; send it by a private channel.\n"
        f"It expires on {expires}."
    )
    print_result(done, {"account": name, "file": out, "expires": expires}, as_json)
