"""Set a coordinator up, and what others need of it: files, addresses, certificates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launch.cli.coordinator.options import HERE, Config, configuration
from protocol.terminal.command_line import Json, Yes, confirm, print_result
from protocol.terminal.printable import printable

if TYPE_CHECKING:
    from protocol.wire.enrolment import EnrolmentCard


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

    made = make(configuration(config), folder, out, store)
    lines = [f"{printable(person):<24} {file}" for person, file in made.items()]
    lines += [f"With each file goes {out / CA}. Now: wardround mlflow {folder}."]
    print_result("\n".join(lines), {"folder": folder, "made": made, "ca": out / CA}, as_json)


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
    content = bundle_of(configuration(config))
    write(out, (json.dumps(content, indent=2) + "\n").encode(), mode=PUBLIC)
    ca = authority_fingerprint(content["ca"])
    sites = {site: fingerprint(bytes.fromhex(key)) for site, key in content["roster"].items()}
    signs = fingerprint(bytes.fromhex(content["signing_key"]))
    own = [("(CA certificate)", ca), ("(signs models)", signs)]
    lines = [f"{printable(name):<24} {of}" for name, of in [*own, *sites.items()]]
    facts = {"file": out, "ca": ca, "signing_key": signs, "sites": sites}
    print_result("\n".join(lines), facts, as_json)


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
    pki = configuration(config).pki
    pki.renew(host or ())
    days, hosts = pki.days_left(), pki.hosts()
    done = f"Good for {days:.0f} days, for {', '.join(hosts)}."
    print_result(done, {"days": days, "hosts": hosts}, as_json)
