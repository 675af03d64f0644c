"""mlflow.yaml in MLflow's folder: where it listens, and where it keeps runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, PrivateAttr, StringConstraints

from protocol.address import Address, ListenAddress
from protocol.document import Document
from protocol.errors import Code
from protocol.secret_files import read_secret
from protocol.yaml.documents import read_yaml, validate

FILE = "mlflow.yaml"
_MAKE = "`wardround coordinator mlflow FOLDER` makes it."
STORE = r"^postgresql(\+psycopg)?://\S+$"


class Settings(Document):
    """The content of mlflow.yaml, which may hold a database's password and is its owner's alone."""

    _home: Path = PrivateAttr(default=Path())
    address: ListenAddress = Field(description="host:port by which people reach it")
    listen: ListenAddress = Field(description="host:port on this machine, such as 0.0.0.0:5000")
    store: Annotated[str, StringConstraints(pattern=STORE)] | None = Field(
        default=None, description="postgresql://USER:PASSWORD@HOST/DATABASE, or null for SQLite"
    )

    @property
    def home(self) -> Path:
        return self._home

    @property
    def database(self) -> str:
        """Where MLflow keeps experiments, runs and models, as SQLAlchemy writes it."""
        return self.store or f"sqlite:///{self._home / 'mlflow.db'}"

    @property
    def certificate(self) -> Path:
        return self._home / "server.crt"

    @property
    def private_key(self) -> Path:
        return self._home / "server.key"

    @staticmethod
    def load(home: Path) -> Settings:
        """Raises WardroundError: CONFIGURATION naming the key at fault, TRACKING where others can
        read the file."""
        path = home / FILE
        read_secret(path, "file", Code.TRACKING, remedy=_MAKE, exposed="change its password")
        settings = validate(Settings, read_yaml(path, _MAKE), str(path))
        settings._home = home.resolve()
        return settings


def template(address: Address, store: str | None) -> str:
    """A commented mlflow.yaml."""
    loopback = address.host in {"127.0.0.1", "::1", "localhost"}
    listen = address if loopback else Address("0.0.0.0", address.port)  # noqa: S104 (to be reached)
    kept = f'"{store}"' if store else "null"
    return f"""\
# A federation's MLflow. Beside this file: people.json, server.crt and server.key, artifacts/,
# basic_auth.db (whose runs are whose) and, without a store, mlflow.db.

# How people reach it; the host is that of the certificate.
address: "{address}"

# Where it listens on this machine.
listen: "{listen}"

# A PostgreSQL database (postgresql://USER:PASSWORD@HOST/DATABASE), or null: SQLite in this folder.
store: {kept}
"""
