"""Commands that need no running coordinator: make its folder, show its status, write a bundle."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from protocol import durable_files
from protocol.address import Address
from protocol.errors import Code, WardroundError
from protocol.identity import fingerprint
from protocol.wire.enrolment import EnrolmentCard, Invitation
from server.coordinator import schema
from server.coordinator.config import FILE, CoordinatorConfig, template
from server.coordinator.lock import is_running
from server.enrolment.account_terms import Role
from server.enrolment.accounts import Accounts, Credentials, issue, refuse_existing
from server.enrolment.certificates import Pki
from server.enrolment.consortium import Consortium
from server.enrolment.invitations import Invitations
from server.enrolment.json_store import write_json
from server.enrolment.roster import Roster
from server.enrolment.signing_key import signing_key

_STATUS_AGE = 30.0
"""Seconds; a running coordinator writes its status every five."""


def create(
    folder: Path, hosts: list[str], port: int, tracking: str | None, organisation: str
) -> CoordinatorConfig:
    """Makes the folder (0700), whole or not at all.

    Raises WardroundError: STATE where something is there already, CONFIGURATION for hosts or an
    address of MLflow that cannot be.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise WardroundError(
            Code.STATE,
            f"{folder} exists and is not empty.",
            remedy="Choose a new folder; a coordinator is never overwritten.",
        )
    for host in hosts:
        try:
            Address.parse(str(Address(host, 0)))
        except ValueError:
            raise WardroundError(
                Code.CONFIGURATION,
                f"{host!r} is no host name or address.",
                remedy="Give --host a name that sites can look up, or an IP address.",
            ) from None
    folder.absolute().parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(dir=folder.absolute().parent, prefix=f".{folder.name}-"))
    try:
        durable_files.write(new / FILE, template(hosts, port, tracking).encode())
        config = CoordinatorConfig.load(new)
        config.pki.create(organisation, hosts)
        signing_key(new)
        write_json(config.roster, {"sites": {}})
        write_json(config.accounts, {"accounts": {}})
        config.state.mkdir(mode=0o700)
        schema.note(new)
        durable_files.move(new, folder)
    except WardroundError as error:
        message = error.message.replace(str(new), str(folder))
        raise WardroundError(error.code, message, remedy=error.remedy) from None
    except OSError as error:
        raise WardroundError(
            Code.STATE, f"{folder} cannot be made: {error.strerror}.", remedy="Choose another one."
        ) from None
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return CoordinatorConfig.load(folder)


def set_up(consortium: Consortium, folder: Path, out: Path) -> dict[str, Path]:
    """Makes the coordinator's folder unless it is there, and in `out` a file for every party that
    has none yet: SITE.invitation.json and ACCOUNT.credentials.json. Returns party -> new file.

    May be called again with a longer consortium. Raises WardroundError: as `create`; CONFIGURATION
    where the coordinator that is there has another address; USAGE where a file exists.
    """
    place = consortium.coordinator
    address = str(Address(place.hosts[0], place.port))
    if (folder / FILE).exists():
        config = CoordinatorConfig.load(folder)
        if config.address != address:
            raise WardroundError(
                Code.CONFIGURATION,
                f"{folder} is a coordinator at {config.address}, not {address}.",
                remedy=f"Correct one of them; coordinator.yaml in {folder} decides where it is.",
            )
    else:
        config = create(folder, place.hosts, place.port, place.mlflow, place.organisation)
    durable_files.make_folder(out)
    invitations, accounts, made = Invitations(config.invitations), Accounts(config.accounts), {}
    ca = authority(config.pki)
    known = {*invitations.all(), *Roster(config.roster).sites()}
    for site in sorted(set(consortium.hospitals) - known):
        refuse_existing(file := out / f"{site}.invitation.json")

        def invite(token: str, site: str = site, file: Path = file) -> None:
            invitation = Invitation(
                site=site, coordinator=address, ca=ca, token=token, rules=consortium.rules
            )
            write_json(file, invitation.model_dump(mode="json"))

        invitations.add(site, consortium.hospitals[site], invite)
        made[site] = file
    people: dict[str, Role] = dict.fromkeys(consortium.data_scientists, "own_studies")
    people |= dict.fromkeys(consortium.reviewers, "reviewer")
    for name in sorted(set(people) - set(accounts.all())):
        refuse_existing(file := out / f"{name}.credentials.json")

        def give(token: str, name: str = name, file: Path = file) -> None:
            issue(file, credentials(config, name, token))

        accounts.add(name, role=people[name], deliver=give)
        made[name] = file
    return made


def enrol_waiting(
    config: CoordinatorConfig, compare: Callable[[str, EnrolmentCard], None]
) -> list[str]:
    """Puts the hospitals on the roster whose cards have come. compare: returns once a person has
    compared a site's fingerprints by telephone, and raises otherwise. Returns their names."""
    roster, enrolled = Roster(config.roster), []
    for site, invited in Invitations(config.invitations).all().items():
        if invited.card is not None and site not in roster.sites():
            compare(site, invited.card)
            roster.add(invited.card, invited.patients)
            enrolled.append(site)
    return enrolled


def awaited(config: CoordinatorConfig) -> list[str]:
    """Hospitals that are invited, and not on the roster yet."""
    return sorted(set(Invitations(config.invitations).all()) - set(Roster(config.roster).sites()))


def bundle(config: CoordinatorConfig) -> dict[str, Any]:
    """What every site needs. Raises WardroundError(TLS, CONFIGURATION or IDENTITY)."""
    public = signing_key(config.folder).public_key.hex()
    roster = Roster(config.roster).bundle(config.address, authority(config.pki), public)
    reviewers = Accounts(config.accounts).reviewers()
    return roster | ({"reviewers": reviewers} if reviewers else {})


def credentials(config: CoordinatorConfig, account: str, token: str) -> Credentials:
    """What a data scientist needs. Raises WardroundError(TLS or IDENTITY)."""
    return Credentials(
        coordinator=config.address,
        ca=authority(config.pki),
        account=account,
        token=token,
        signing_key=signing_key(config.folder).public_key.hex(),
    )


def authority(pki: Pki) -> str:
    """The CA certificate in PEM. Raises WardroundError(TLS)."""
    try:
        return pki.ca_certificate.read_text()
    except OSError as error:
        raise WardroundError(
            Code.TLS,
            f"{pki.ca_certificate} cannot be read: {error.strerror}.",
            remedy="Restore it; a new CA would have to be brought to every site.",
        ) from None


def authority_fingerprint(pem: str) -> str:
    """Of the CA certificate's DER, as sites show it when they join."""
    certificate = x509.load_pem_x509_certificate(pem.encode())
    return fingerprint(certificate.public_bytes(Encoding.DER))


def status(config: CoordinatorConfig) -> dict[str, Any]:
    """Whether the coordinator runs, since when, and sites and studies as it last wrote them;
    `failing`: what it cannot do now -> why; `attention`: what to do before it fails."""
    try:
        noted = json.loads((path := config.state / "status.json").read_bytes())
        noted_at = path.stat().st_mtime
    except (OSError, ValueError):
        noted, noted_at = {}, math.inf
    running = is_running(config)
    failing = dict(noted.get("failing", {})) if running else {}
    warning, days = config.pki.warning(), config.pki.days_left()
    if warning and days <= 0:
        failing["certificate"] = warning
    if running and (age := time.time() - noted_at) > _STATUS_AGE:
        failing["status"] = f"not written for {age:.0f} s: is the disk full?"
    online = noted.get("online", []) if running else []
    return {
        "running": running,
        "pid": noted.get("pid") if running else None,
        "since": noted.get("since") if running else None,
        "address": config.address,
        "certificate_days_left": round(days, 1),
        "attention": [
            *([warning] if warning else []),
            *(noted.get("unsigned", []) if running else []),
        ],
        "sites": {
            name: {
                "patients": entry.patients,
                "online": name in online,
                "fingerprint": fingerprint(bytes.fromhex(entry.identity)),
            }
            for name, entry in Roster(config.roster).sites().items()
        },
        "studies": noted.get("studies", []),
        "failing": failing,
    }


def cancel(config: CoordinatorConfig, start: str) -> str:
    """Marks the study whose digest begins so as cancelled; its digest.

    Raises WardroundError(USAGE) where there is none, or more than one.
    """
    studies = config.state / "studies"
    names = os.listdir(studies) if studies.is_dir() else []
    matching = [name for name in names if start and name.startswith(start)]
    if len(matching) != 1 or matching[0].startswith("."):
        raise WardroundError(
            Code.USAGE,
            f"{len(matching)} studies begin with {start!r}.",
            remedy="`wardround coordinator status` names them.",
        )
    durable_files.write(studies / matching[0] / "cancelled", b"")
    return matching[0]
