"""Who is on the roster: enrolment, new keys, and the end of either."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from launch.cli.coordinator.options import HERE, Config, configuration
from protocol.terminal.command_line import Json, Yes, confirm, print_result
from protocol.terminal.printable import printable


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

    Invitations(configuration(config).invitations).withdraw(site)
    print_result(f"The invitation of {printable(site)} is withdrawn.", {"site": site}, as_json)


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

    roster, enrolled = Roster(configuration(config).roster), EnrolmentCard.load(card)
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

    roster, new = Roster(configuration(config).roster), EnrolmentCard.load(card)
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

    Roster(configuration(config).roster).remove(name)
    done = f"{printable(name)} is expelled. Connected sites learn of it by themselves."
    print_result(done, {"expelled": name}, as_json)


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

    Roster(configuration(config).roster).revoke_former(name)
    done = f"Former keys of {printable(name)} are revoked. Connected sites learn of it."
    print_result(done, {"revoked": name}, as_json)
