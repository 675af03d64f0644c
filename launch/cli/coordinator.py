"""`wardround coordinator`: set up and run a coordinator, enrol hospitals, make accounts."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from protocol.core_dumps import forbid_core_dumps
from protocol.errors import WardroundError, unwritable
from protocol.terminal.command_line import (
    CommandLine,
    Json,
    Log,
    Yes,
    confirm,
    console,
    print_json,
    print_result,
)
from protocol.terminal.printable import printable
from server.enrolment.account_terms import TOKEN_DAYS, Role

if TYPE_CHECKING:
    from protocol.wire.enrolment import EnrolmentCard
    from server.coordinator.config import CoordinatorConfig
    from server.enrolment.accounts import Accounts, Deliver

coordinator_app = CommandLine(
    "Run a coordinator: sites, accounts, studies.\n\n"
    "First steps: [bold]setup[/] from consortium.yaml, [bold]start[/], and [bold]setup[/] again "
    "when the hospitals have answered. By hand: [bold]init[/], [bold]enrol[/], [bold]bundle[/], "
    "[bold]account add[/]."
)
account_app = CommandLine(
    "Accounts of data scientists and reviewers: who may submit studies, and who judges models."
)
coordinator_app.add_typer(account_app, name="account")

Config = Annotated[
    Path,
    typer.Option(
        "--config",
        "-c",
        envvar="WARDROUND_COORDINATOR_FOLDER",
        help="coordinator.yaml, or the folder that holds it.",
        show_default="./coordinator.yaml",
    ),
]
HERE = Path("coordinator.yaml")
Out = Annotated[Path, typer.Option(help="A new file, readable by its owner only.")]
Days = Annotated[int, typer.Option(min=1, max=3650, help="Days until the token expires.")]


def _config(path: Path) -> CoordinatorConfig:
    from server.coordinator.config import FILE, CoordinatorConfig

    return CoordinatorConfig.load(path.parent if path.name == FILE else path)


@coordinator_app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    host: Annotated[
        list[str],
        typer.Option("--host", help="Name or address by which sites reach it. May be repeated."),
    ],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where it listens.")] = 9092,
    mlflow: Annotated[str | None, typer.Option(help="An MLflow server, http(s)://...")] = None,
    organisation: Annotated[
        str, typer.Option(help="Who runs it, as written in the CA certificate.")
    ] = "wardround",
    as_json: Json = False,
) -> None:
    """Make a coordinator in a new FOLDER: certificates, coordinator.yaml, an empty roster.

    Once, on the machine that the hospitals will connect to. Nothing is ever overwritten.

    Example: wardround coordinator init /srv/coordinator --host fl.example.org
    """
    from server.coordinator.setup import create

    made = create(folder, host, port, mlflow, organisation)
    print_result(
        f"{made.folder}/coordinator.yaml says where it listens: {made.listen}.\n"
        f"Next: wardround coordinator enrol CARD --patients N --config {folder}, for every site;\n"
        f"wardround coordinator account add NAME --out FILE --config {folder}, for data scientists;"
        f"\nwardround coordinator start --config {folder}.",
        {"folder": made.folder, "address": made.address, "listen": made.listen},
        as_json,
    )


@coordinator_app.command()
def setup(
    consortium: Annotated[Path, typer.Argument(help="consortium.yaml: who is in the federation.")],
    folder: Annotated[Path, typer.Argument(help="The coordinator's folder.")],
    out: Annotated[
        Path, typer.Option(help="Where the files for the other parties go.", show_default=True)
    ] = Path("invitations"),
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Set a whole federation up from one file, and enrol the hospitals that have answered.

    First it makes the coordinator in FOLDER, and a file for every other party: hospitals follow
    theirs with `wardround-site join`, people theirs with `wardround login`. Send each by a private
    channel. Then start the coordinator. Run the same command again when hospitals have answered (it
    shows each one's fingerprints, to be compared by telephone), or when the file names more
    parties. What is there is never overwritten.

    Example: wardround coordinator setup consortium.yaml /srv/coordinator
    """
    from server.coordinator.config import CoordinatorConfig
    from server.coordinator.setup import awaited, enrol_waiting, set_up
    from server.enrolment.consortium import Consortium

    made = set_up(Consortium.load(consortium), folder, out)

    def compare(site: str, card: EnrolmentCard) -> None:
        typer.echo(f"site      {printable(site)}", err=as_json)
        typer.echo(f"identity  {card.identity_fingerprint}", err=as_json)
        typer.echo(f"node key  {card.node_fingerprint}", err=as_json)
        confirm("Has the site read the same fingerprints to you over the telephone?", yes)

    config = CoordinatorConfig.load(folder)
    enrolled = enrol_waiting(config, compare)
    missing = awaited(config)
    lines = [f"{printable(party):<24} {file}" for party, file in made.items()]
    lines += [f"{printable(site):<24} enrolled" for site in enrolled]
    lines += [f"Not enrolled yet: {', '.join(missing)}."] if missing else []
    print_result(
        "\n".join(lines) or "All are enrolled.",
        {"folder": folder, "made": made, "enrolled": enrolled, "awaited": missing},
        as_json,
    )


@coordinator_app.command()
def mlflow(
    folder: Annotated[Path, typer.Argument(help="MLflow's folder: a new one, or its own.")],
    out: Annotated[
        Path, typer.Option(help="Where the files for people go.", show_default=True)
    ] = Path("invitations"),
    store: Annotated[
        str | None,
        typer.Option(help="A PostgreSQL database, postgresql://USER@HOST/NAME; else SQLite."),
    ] = None,
    config: Config = HERE,
    as_json: Json = False,
) -> None:
    """Set up the federation's MLflow: TLS, and a password and a role for each account.

    Once, where `tracking.uri` in coordinator.yaml says by which https address people will reach it;
    and again whenever accounts were added or removed, or the certificate nears its end. Data
    scientists write their runs, reviewers read and set aliases, hospitals have no access. Send each
    file by a private channel. `wardround mlflow FOLDER` serves it.

    Example: wardround coordinator mlflow /srv/mlflow --config /srv/coordinator
    """
    from launch.tracking_server.setup import CA, make

    made = make(_config(config), folder, out, store)
    lines = [f"{printable(person):<24} {file}" for person, file in made.items()]
    lines += [f"With each file goes {out / CA}. Now: wardround mlflow {folder}."]
    print_result("\n".join(lines), {"folder": folder, "made": made, "ca": out / CA}, as_json)


@coordinator_app.command()
def withdraw(
    site: Annotated[str, typer.Argument(help="A hospital that is invited.")],
    config: Config = HERE,
    as_json: Json = False,
) -> None:
    """Take back a hospital's invitation, and forget the card that came with it.

    When an invitation was lost, or its card has other fingerprints than the hospital reads out. The
    next `setup` makes a new one.

    Example: wardround coordinator withdraw north
    """
    from server.enrolment.invitations import Invitations

    Invitations(_config(config).invitations).withdraw(site)
    print_result(f"The invitation of {printable(site)} is withdrawn.", {"site": site}, as_json)


@coordinator_app.command()
def start(
    config: Config = HERE,
    log: Log = "text",
    folder: Annotated[Path | None, typer.Argument(hidden=True)] = None,
) -> None:
    """Run the coordinator in the foreground, until SIGTERM or Ctrl-C.

    Run it under systemd or in a container. Studies that are running when it stops continue from
    their last round when it starts again.

    Example: wardround coordinator start --config /srv/coordinator --log json
    """
    forbid_core_dumps()
    from launch.tracking_server.coordinator_login import log_in
    from server.coordinator.journal import Journal
    from server.coordinator.operations.metrics import CoordinatorMetrics
    from server.coordinator.operations.settlement import Settlement
    from server.coordinator.service import Coordinator
    from server.review.approval_watch import ApprovalWatch

    ending = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        ending.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    # Roster, accounts and server certificate are reread without a reload.
    signal.signal(signal.SIGHUP, lambda number, frame: None)
    loaded = _config(folder or config)  # older releases took the folder as an argument
    log_in(loaded)
    journal = Journal(loaded.event_log, console=sys.stdout, as_json=log == "json")
    try:
        with contextlib.ExitStack() as stack:
            coordinator = stack.enter_context(Coordinator(loaded, journal))
            if loaded.metrics is not None:
                stack.enter_context(CoordinatorMetrics(loaded.metrics, coordinator))
            if (uri := loaded.tracking.uri) is not None:
                folder, signer = coordinator.undelivered, coordinator.signer
                stack.enter_context(Settlement(folder, uri, signer, journal.delivered))
                report = coordinator.unsigned_approvals
                watch = ApprovalWatch(coordinator.decisions, coordinator.offers, uri, report)
                stack.enter_context(watch)
            coordinator.serve(ending)
    except WardroundError as error:
        if log == "text":
            raise
        journal.write("failed", code=error.code.value, why=error.message, do=error.remedy)
        raise typer.Exit(error.exit_status) from None
    finally:
        journal.close()


@coordinator_app.command()
def status(config: Config = HERE, as_json: Json = False) -> None:
    """Show whether the coordinator runs, its sites and its studies.

    Run it first when a site or a data scientist reports that something does not answer.

    Example: wardround coordinator status --config /srv/coordinator
    """
    from server.coordinator.setup import status as status_of

    status = status_of(_config(config))
    if as_json:
        print_json(status)
        return
    from rich.table import Table

    screen = console()
    screen.print(
        f"{'running' if status['running'] else 'not running'}, {status['address']}, "
        f"certificate good for {status['certificate_days_left']:.0f} days"
    )
    for sentence in status["attention"]:
        screen.print(f"attention: {sentence}")
    for what, why in status["failing"].items():
        screen.print(f"failing: {printable(what)} ({printable(why)})")
    for study in status["studies"]:
        if why := study.get("paused"):
            screen.print(
                f"paused: study {printable(study['study'][:12])} ({printable(why)}); it goes on "
                "by itself once the disk takes its writes"
            )
    sites = Table("site", "patients", "online", "fingerprint", box=None)
    for name, site in status["sites"].items():
        online = "yes" if site["online"] else "no"
        sites.add_row(printable(name), str(site["patients"]), online, site["fingerprint"])
    screen.print(sites)
    studies = Table("study", "state", "round", "title", "account", box=None)
    for study in status["studies"]:
        rounds = f"{study['round']}/{study['rounds']}"
        row = (study["study"][:12], study["state"], rounds, study["title"], study["account"])
        studies.add_row(*map(printable, row))
    screen.print(studies)


@coordinator_app.command()
def enrol(
    card: Annotated[Path, typer.Argument(help="The file that `wardround-site enrol` made.")],
    patients: Annotated[
        int, typer.Option(min=0, help="How many patients for training the site declares.")
    ],
    config: Config = HERE,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Put a site on the roster, once its fingerprints have been compared by telephone.

    When a hospital has sent its card. --yes says that you have compared the fingerprints.

    Example: wardround coordinator enrol north.json --patients 150
    """
    from protocol.wire.enrolment import EnrolmentCard
    from server.enrolment.roster import Roster, banded

    roster, enrolled = Roster(_config(config).roster), EnrolmentCard.load(card)
    typer.echo(f"site      {printable(enrolled.site)}", err=as_json)
    typer.echo(f"identity  {enrolled.identity_fingerprint}", err=as_json)
    typer.echo(f"node key  {enrolled.node_fingerprint}", err=as_json)
    typer.echo(f"patients  {banded(patients)} (declared)", err=as_json)
    confirm("Has the site read the same fingerprints to you over the telephone?", yes)
    roster.add(enrolled, patients)
    facts = {
        "site": enrolled.site,
        "identity": enrolled.identity_fingerprint,
        "node_key": enrolled.node_fingerprint,
        "patients": banded(patients),
    }
    done = (
        f"{printable(enrolled.site)} is enrolled. Send it a bundle. Connected sites learn of it by "
        "themselves, and their operators confirm it by telephone."
    )
    print_result(done, facts, as_json)


@coordinator_app.command()
def rotate(
    card: Annotated[Path, typer.Argument(help="What `wardround-site roster rotate` wrote.")],
    config: Config = HERE,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Take a site's new keys, signed by its old ones or compared by telephone.

    When a hospital has sent such a card; no study is lost. A card of new keys that the old ones did
    not sign is taken after a telephone call (--yes says there was one), and every other hospital
    then confirms the new identity by telephone too.

    Example: wardround coordinator rotate card.json
    """
    from protocol.wire.enrolment import EnrolmentCard
    from server.enrolment.roster import Roster

    roster, new = Roster(_config(config).roster), EnrolmentCard.load(card)
    signed = new.follows(roster.entry(new.site).identity)
    typer.echo(f"site      {printable(new.site)}", err=as_json)
    typer.echo(f"identity  {new.identity_fingerprint}", err=as_json)
    typer.echo(f"node key  {new.node_fingerprint}", err=as_json)
    if signed:
        typer.echo("signed    by the keys that it is enrolled with", err=as_json)
    else:
        confirm("Has the site read the same fingerprints to you over the telephone?", yes)
    roster.rotate(new if signed else new.model_copy(update={"handover": None}))
    facts = {"site": new.site, "identity": new.identity_fingerprint, "signed": signed}
    print_result(f"The keys of {printable(new.site)} are replaced.", facts, as_json)


@coordinator_app.command()
def expel(
    name: Annotated[str, typer.Argument(help="A site of the roster.")],
    config: Config = HERE,
    as_json: Json = False,
) -> None:
    """Remove a site from the roster and revoke its identity key, for good.

    When a hospital leaves, or its key is in wrong hands. A running coordinator disconnects it, and
    the other sites refuse every sum with it from then on. It returns with a new key only.

    Example: wardround coordinator expel north
    """
    from server.enrolment.roster import Roster

    Roster(_config(config).roster).remove(name)
    done = f"{printable(name)} is expelled. Connected sites learn of it by themselves."
    print_result(done, {"expelled": name}, as_json)


@coordinator_app.command()
def revoke(
    name: Annotated[str, typer.Argument(help="A site of the roster.")],
    config: Config = HERE,
    as_json: Json = False,
) -> None:
    """Revoke the identity keys that a site had before its present one, for good.

    When an old key is in wrong hands and the site has another by now (rotate). Studies from before
    the change go on without the site, or end where they sum exactly; newer ones are not touched.

    Example: wardround coordinator revoke north
    """
    from server.enrolment.roster import Roster

    Roster(_config(config).roster).revoke_former(name)
    done = f"Former keys of {printable(name)} are revoked. Connected sites learn of it."
    print_result(done, {"revoked": name}, as_json)


@coordinator_app.command()
def bundle(
    out: Annotated[Path, typer.Option(help="A new file.")],
    config: Config = HERE,
    as_json: Json = False,
) -> None:
    """Write what every site needs: address, CA certificate, public keys of sites and of models.

    For a site that is new: it loads it with `wardround-site join` and compares the fingerprints
    shown here. Later changes of the roster reach it by themselves. Whoever uses models
    verifies with it who signed them (`wardround models verify --key`).

    Example: wardround coordinator bundle --out bundle.json
    """
    from protocol.durable_files import PUBLIC, write
    from protocol.identity import fingerprint
    from server.coordinator.setup import authority_fingerprint
    from server.coordinator.setup import bundle as bundle_of
    from server.enrolment.accounts import refuse_existing

    refuse_existing(out)
    content = bundle_of(_config(config))
    write(out, (json.dumps(content, indent=2) + "\n").encode(), mode=PUBLIC)
    ca = authority_fingerprint(content["ca"])
    sites = {site: fingerprint(bytes.fromhex(key)) for site, key in content["roster"].items()}
    signs = fingerprint(bytes.fromhex(content["signing_key"]))
    own = [("(CA certificate)", ca), ("(signs models)", signs)]
    lines = [f"{printable(name):<24} {of}" for name, of in [*own, *sites.items()]]
    facts = {"file": out, "ca": ca, "signing_key": signs, "sites": sites}
    print_result("\n".join(lines), facts, as_json)


@coordinator_app.command()
def renew(
    config: Config = HERE,
    host: Annotated[
        list[str] | None,
        typer.Option("--host", help="New host names instead of the old ones. May be repeated."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Issue a new server certificate; a running coordinator loads it, sites change nothing.

    Before the certificate expires (`status` shows the days left), or when the host name changes.

    Example: wardround coordinator renew --host fl.example.org
    """
    pki = _config(config).pki
    pki.renew(host or ())
    days, hosts = pki.days_left(), pki.hosts()
    done = f"Good for {days:.0f} days, for {', '.join(hosts)}."
    print_result(done, {"days": days, "hosts": hosts}, as_json)


@coordinator_app.command()
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

    write(_config(config), file)
    print_result(f"Written to {file}. It holds private keys.", {"file": file}, as_json)


@coordinator_app.command()
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


@coordinator_app.command()
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
    write(out, history_of(_config(config), site))
    print_result(f"Written to {out}.", {"file": out, "site": site}, as_json)


@coordinator_app.command()
def prune(
    days: Annotated[int, typer.Option(min=1, help="Days since the study ended.")] = 365,
    config: Config = HERE,
    as_json: Json = False,
) -> None:
    """Remove weights and checkpoints of studies that ended long ago.

    From a timer, or when the disk fills up. Models are in MLflow. What a study was and what
    happened stays: its document, events and summary. What hospitals have spent stands in their
    ledgers, which nothing here touches.

    Example: wardround coordinator prune --days 90
    """
    from datetime import timedelta

    from server.coordinator.operations.prune import prune as remove

    gone = remove(_config(config), timedelta(days=days))
    lines = [f"{one.study[:12]}  {one.bytes / 1e6:.1f} MB" for one in gone]
    facts = [{"study": one.study, "bytes": one.bytes} for one in gone]
    print_result("\n".join(lines) or "Nothing to remove.", facts, as_json)


@coordinator_app.command()
def cancel(
    study: Annotated[str, typer.Argument(help="The study's digest, or its first digits.")],
    config: Config = HERE,
    as_json: Json = False,
) -> None:
    """End a study for good, whoever submitted it.

    When a study must not continue and its owner cannot be reached. What it has spent stays spent.

    Example: wardround coordinator cancel 3f1c2a9b
    """
    from server.coordinator.setup import cancel as cancel_study

    digest = cancel_study(_config(config), study)
    print_result(f"Cancelled: {digest}", {"cancelled": digest}, as_json)


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
    Accounts(_config(config).accounts).set_key(name, key)
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

    Accounts(_config(config).accounts).remove(name)
    print_result(f"{printable(name)} is removed.", {"removed": name}, as_json)


@account_app.command("list")
def account_list(config: Config = HERE, as_json: Json = False) -> None:
    """List the accounts: when each was made, when its token expires, which studies it sees.

    To see who may submit studies, and whose token has to be rotated soon.

    Example: wardround coordinator account list --json
    """
    from server.enrolment.accounts import Accounts

    accounts = Accounts(_config(config).accounts).all()
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

    loaded = _config(config)
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
