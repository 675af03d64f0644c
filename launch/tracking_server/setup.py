"""Makes a federation's MLflow from its coordinator: certificate, people, and a file for each."""

from __future__ import annotations

from pathlib import Path
from typing import assert_never
from urllib.parse import urlsplit

from launch.tracking_server.coordinator_login import COORDINATOR, PASSWORD
from launch.tracking_server.people import Part, People
from launch.tracking_server.settings import FILE, Settings, template
from protocol import durable_files
from protocol.address import Address
from protocol.errors import Code, WardroundError
from server.coordinator.config import CoordinatorConfig
from server.coordinator.setup import authority
from server.enrolment.account_terms import Role
from server.enrolment.accounts import Accounts, refuse_existing

CA = "mlflow-ca.crt"


def part_of(role: Role) -> Part:
    match role:
        case "own_studies" | "all_studies":
            return "data_scientist"
        case "reviewer":
            return "reviewer"
    assert_never(role)


def make(config: CoordinatorConfig, home: Path, out: Path, store: str | None) -> dict[str, Path]:
    """Makes MLflow's folder unless it is there, and for everybody who has none yet a file in `out`
    with address, name and password. Returns person -> new file.

    Whoever has no account at the coordinator any more is put out. A certificate that is missing or
    within 60 days of its end is made anew. Raises WardroundError: CONFIGURATION where
    coordinator.yaml names no https address of MLflow, or another than the folder; USAGE where a
    file exists or `store` holds a password; TLS and STATE for what the coordinator lacks.
    """
    address = _address(config)
    accounts = Accounts(config.accounts).all()
    if COORDINATOR in accounts:
        raise WardroundError(
            Code.CONFIGURATION,
            f"An account is called {COORDINATOR}, as the coordinator itself is in MLflow.",
            remedy="Give that person another account.",
        )
    if not (home / FILE).exists():
        _refuse_password(store)
        durable_files.make_folder(home)
        durable_files.write(home / FILE, template(address, store).encode())
    settings = Settings.load(home)
    if settings.address != str(address):
        raise WardroundError(
            Code.CONFIGURATION,
            f"{home} is an MLflow at {settings.address}, not {address}.",
            remedy="Correct `address` there or `tracking.uri` in coordinator.yaml.",
        )
    config.pki.issue([address.host], settings.private_key, settings.certificate)
    parts: dict[str, Part] = {name: part_of(account.role) for name, account in accounts.items()}
    parts[COORDINATOR] = "coordinator"
    people, made = People(home), {}
    for name in people.without_password(parts):
        if name == COORDINATOR:
            made[name] = config.folder / PASSWORD
        else:
            refuse_existing(file := out / f"{name}.mlflow.env")
            made[name] = file

    def deliver(name: str, password: str) -> None:
        mine = name == COORDINATOR
        text = f"{password}\n" if mine else _login(config, name, password)
        durable_files.write(made[name], text.encode())

    durable_files.make_folder(out)
    durable_files.write(out / CA, authority(config.pki).encode(), mode=durable_files.PUBLIC)
    people.put(parts, deliver)
    return made


def _login(config: CoordinatorConfig, name: str, password: str) -> str:
    return f"""\
# To log in to the federation's MLflow. In a browser: name and password. For programs, in the folder
# of this file and of {CA}: set -a; . ./{name}.mlflow.env; set +a
MLFLOW_TRACKING_URI={config.tracking.uri}
MLFLOW_TRACKING_USERNAME={name}
MLFLOW_TRACKING_PASSWORD={password}
MLFLOW_TRACKING_SERVER_CERT_PATH="$PWD/{CA}"
"""


def _address(config: CoordinatorConfig) -> Address:
    parts = urlsplit(config.tracking.uri or "")
    if parts.scheme != "https" or not parts.hostname or parts.username or parts.path.strip("/"):
        raise WardroundError(
            Code.CONFIGURATION,
            f"{config.folder / 'coordinator.yaml'}: `tracking.uri` is not the https address of an "
            "MLflow, without a name and password.",
            remedy='Write there how people will reach it: uri: "https://mlflow.example.org:5000".',
        )
    return Address(parts.hostname, parts.port or 443)


def _refuse_password(store: str | None) -> None:
    if store is not None and urlsplit(store).password is not None:
        raise WardroundError(
            Code.USAGE,
            "A password on the command line can be read by everyone on this machine.",
            remedy=f"Leave it out, and write it into `store` of {FILE} afterwards.",
        )
