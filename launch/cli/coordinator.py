"""`wardround coordinator`: set up and run a coordinator, enrol hospitals, give out accounts."""

from __future__ import annotations

import json
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from protocol.errors import Code, WardroundError

if TYPE_CHECKING:
    from server.coordinator.config import CoordinatorConfig

coordinator_app = typer.Typer(
    help="Run a coordinator: sites, accounts, studies.", no_args_is_help=True
)
account_app = typer.Typer(help="Data scientists' accounts.", no_args_is_help=True)
coordinator_app.add_typer(account_app, name="account")

Folder = Annotated[
    Path,
    typer.Option(
        "--folder", "-f", envvar="WARDROUND_COORDINATOR_FOLDER", help="The coordinator's folder."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="For programs.")]
HERE = Path()


def _config(folder: Path) -> CoordinatorConfig:
    from server.coordinator.config import CoordinatorConfig

    return CoordinatorConfig.load(folder)


@coordinator_app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    host: Annotated[
        list[str], typer.Option("--host", help="Name or address that sites use; may be repeated.")
    ],
    port: Annotated[int, typer.Option(min=0, max=65535)] = 9092,
    mlflow: Annotated[str | None, typer.Option(help="An MLflow server, http(s)://...")] = None,
    organisation: Annotated[str, typer.Option(help="Stands in the CA certificate.")] = "wardround",
) -> None:
    """Make a coordinator: certificates, coordinator.yaml, an empty roster, no account."""
    from server.coordinator.setup import create

    config = create(folder, host, port, mlflow, organisation)
    typer.echo(f"{config.folder}/coordinator.yaml says where it listens: {config.listen}.")
    typer.echo(
        f"Next: wardround coordinator enrol CARD --patients N -f {folder}, for every site;\n"
        f"wardround coordinator account add NAME --out FILE -f {folder}, for data scientists;\n"
        f"wardround coordinator start {folder}."
    )


@coordinator_app.command()
def start(
    folder: Annotated[
        Path, typer.Argument(envvar="WARDROUND_COORDINATOR_FOLDER", help="Its folder.")
    ] = HERE,
    as_json: Annotated[bool, typer.Option("--json", help="Log in JSON lines.")] = False,
) -> None:
    """Run the coordinator until SIGTERM or Ctrl-C; studies that run can be gone on with."""
    from server.coordinator.journal import Journal
    from server.coordinator.service import Coordinator

    ending = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        ending.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    # What a reload is for is followed anyway: roster, accounts, server certificate.
    signal.signal(signal.SIGHUP, lambda number, frame: None)
    config = _config(folder)
    journal = Journal(config.event_log, console=sys.stdout, as_json=as_json)
    try:
        with Coordinator(config, journal) as coordinator:
            coordinator.serve(ending)
    finally:
        journal.close()


@coordinator_app.command()
def status(folder: Folder = HERE, as_json: Json = False) -> None:
    """Show whether it runs, its sites and its studies."""
    from server.coordinator.setup import status as status_of

    found = status_of(_config(folder))
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    console = Console()
    console.print(
        f"{'running' if found['running'] else 'not running'}, {found['address']}, "
        f"certificate good for {found['certificate_days_left']:.0f} days"
    )
    sites = Table("site", "patients", "online", "fingerprint", box=None)
    for name, site in found["sites"].items():
        online = "yes" if site["online"] else "no"
        sites.add_row(name, str(site["patients"]), online, site["fingerprint"])
    console.print(sites)
    studies = Table("study", "state", "round", "title", "account", box=None)
    for study in found["studies"]:
        rounds = f"{study['round']}/{study['rounds']}"
        studies.add_row(
            study["study"][:12], study["state"], rounds, study["title"], study["account"]
        )
    console.print(studies)


@coordinator_app.command()
def enrol(
    card: Annotated[Path, typer.Argument(help="What `wardround-site enrol` printed.")],
    patients: Annotated[int, typer.Option(help="Patients for training that the site declares.")],
    folder: Folder = HERE,
    yes: Annotated[bool, typer.Option("--yes", help="The fingerprints were compared.")] = False,
) -> None:
    """Put a site on the roster, once its fingerprints have been compared by telephone."""
    from protocol.wire.enrolment import Card
    from server.enrolment.roster import Roster, banded

    roster, found = Roster(_config(folder).roster), Card.load(card)
    typer.echo(f"site      {found.site}")
    typer.echo(f"identity  {found.identity_fingerprint}")
    typer.echo(f"node key  {found.node_fingerprint}")
    typer.echo(f"patients  {banded(max(0, patients))} (declared)")
    if not yes:
        question = "Has the site read the same fingerprints to you over the telephone?"
        typer.confirm(question, abort=True)
    roster.add(found, patients)
    typer.echo(f"{found.site} is enrolled. Send every site a new bundle.")


@coordinator_app.command()
def expel(name: Annotated[str, typer.Argument(help="A site.")], folder: Folder = HERE) -> None:
    """Take a site off the roster; a running coordinator lets it in no more."""
    from server.enrolment.roster import Roster

    Roster(_config(folder).roster).remove(name)
    typer.echo(f"{name} is expelled. Send every site a new bundle.")


@coordinator_app.command()
def bundle(
    out: Annotated[Path, typer.Option(help="A new file.")],
    folder: Folder = HERE,
) -> None:
    """Write what every site needs: address, CA certificate, all sites' identity keys."""
    from protocol.durable_files import PUBLIC, write
    from protocol.identity import fingerprint
    from server.coordinator.setup import authority_fingerprint
    from server.coordinator.setup import bundle as bundle_of
    from server.enrolment.accounts import refuse_existing

    refuse_existing(out)
    content = bundle_of(_config(folder))
    write(out, (json.dumps(content, indent=2) + "\n").encode(), mode=PUBLIC)
    typer.echo(f"{'(CA certificate)':<24} {authority_fingerprint(content['ca'])}")
    for site, identity in content["roster"].items():
        typer.echo(f"{site:<24} {fingerprint(bytes.fromhex(identity))}")


@coordinator_app.command()
def renew(
    folder: Folder = HERE,
    host: Annotated[
        list[str] | None, typer.Option("--host", help="Other names than those of the old one.")
    ] = None,
) -> None:
    """Issue a new server certificate; a running coordinator takes it up, sites need nothing."""
    pki = _config(folder).pki
    pki.renew(host or ())
    typer.echo(f"Good for {pki.days_left():.0f} days, for {', '.join(pki.hosts())}.")


@coordinator_app.command()
def cancel(
    study: Annotated[str, typer.Argument(help="A study's digest, or how it begins.")],
    folder: Folder = HERE,
) -> None:
    """End anybody's study for good."""
    from server.coordinator.setup import cancel as cancel_study

    typer.echo(f"Cancelled: {cancel_study(_config(folder), study)}")


@account_app.command("add")
def account_add(
    name: Annotated[str, typer.Argument(help="Whose account.")],
    out: Annotated[Path, typer.Option(help="A new file, for its owner only.")],
    folder: Folder = HERE,
) -> None:
    """Make an account, and the credentials file that its owner gets."""
    from server.coordinator.setup import authority
    from server.enrolment.accounts import Accounts, Credentials, issue, refuse_existing

    config = _config(folder)
    refuse_existing(out)
    ca, accounts = authority(config.pki), Accounts(config.accounts)
    token = accounts.add(name)
    try:
        issue(out, Credentials(coordinator=config.address, ca=ca, account=name, token=token))
    except OSError as error:
        accounts.remove(name)
        raise WardroundError(
            Code.USAGE,
            f"{out} cannot be written: {error.strerror}.",
            remedy="Choose another --out.",
        ) from None
    typer.echo(f"{out} holds the only copy of the token; hand it over by a way that is private.")


@account_app.command("remove")
def account_remove(
    name: Annotated[str, typer.Argument(help="Whose account.")], folder: Folder = HERE
) -> None:
    """Refuse an account's token from now on; its studies go on."""
    from server.enrolment.accounts import Accounts

    Accounts(_config(folder).accounts).remove(name)
    typer.echo(f"{name} is removed.")


@account_app.command("list")
def account_list(folder: Folder = HERE, as_json: Json = False) -> None:
    """List accounts."""
    from server.enrolment.accounts import Accounts

    accounts = Accounts(_config(folder).accounts).all()
    if as_json:
        typer.echo(json.dumps({n: a.created for n, a in accounts.items()}, indent=2))
        return
    for name, account in accounts.items():
        typer.echo(f"{name:<24} since {account.created}")
