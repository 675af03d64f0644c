"""coordinator.yaml: where the coordinator listens, what it tracks in, how patient it is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, PrivateAttr, StringConstraints

from protocol.address import Address, ListenAddress
from protocol.document import Document
from protocol.yaml.documents import read_yaml, validate
from server.coordinator import schema
from server.enrolment.certificates import Pki
from server.rounds.proposal import Patience

FILE = "coordinator.yaml"
DEFAULT_PORT = 9092
_INIT = (
    "Name coordinator.yaml or its folder with --config, or make one with "
    "`wardround coordinator init FOLDER --host NAME`."
)


Seconds = Annotated[float, Field(gt=0, le=30 * 24 * 3600, strict=False)]


class Tracking(Document):
    """Where MLflow is."""

    uri: Annotated[str, StringConstraints(pattern=r"^https?://.+")] | None = Field(
        default=None, description="the http:// or https:// address of an MLflow server, or null"
    )


class WaitingLimits(Document):
    """How long a study waits."""

    answer: Seconds = Field(default=3600.0, description="seconds for one answer of a site")
    join: Seconds = Field(
        default=86400.0, description="seconds for sites to come online or to approve"
    )
    failures: Annotated[int, Field(ge=1, le=100)] = Field(
        default=5, description="a whole number: attempts in a row that may be lost"
    )

    @property
    def patience(self) -> Patience:
        return Patience(answer=self.answer, join=self.join, failures=self.failures)


class CoordinatorConfig(Document):
    """What `coordinator.yaml` says. `folder` is where it lies; everything else lies beside it."""

    _folder: Path = PrivateAttr(default=Path())
    address: ListenAddress = Field(
        description="host:port by which sites and data scientists reach this coordinator"
    )
    listen: ListenAddress = Field(description="host:port on this machine, such as 0.0.0.0:9092")
    tracking: Tracking = Field(default=Tracking(), description="a mapping with uri")
    waiting: WaitingLimits = Field(
        default=WaitingLimits(), description="a mapping with answer, join and failures"
    )
    studies: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=16, description="a whole number: studies that may run at once"
    )

    metrics: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        default=None, description="a port on 127.0.0.1 for /healthz and /metrics, or left out"
    )

    @property
    def folder(self) -> Path:
        return self._folder

    @property
    def pki(self) -> Pki:
        return Pki(self.folder / "pki")

    @property
    def roster(self) -> Path:
        return self.folder / "roster.json"

    @property
    def invitations(self) -> Path:
        return self.folder / "invitations.json"

    @property
    def accounts(self) -> Path:
        return self.folder / "accounts.json"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def event_log(self) -> Path:
        return self.state / "events.log"

    @staticmethod
    def load(folder: Path) -> CoordinatorConfig:
        """Reads `coordinator.yaml` in `folder`.

        Raises WardroundError: CONFIGURATION naming the key at fault and what to do; RELEASE where
        a newer release wrote the folder.
        """
        path = folder / FILE
        values = read_yaml(path, _INIT)
        schema.version_of(folder)
        config = validate(CoordinatorConfig, values, str(path))
        config._folder = folder.resolve()
        return config


def template(hosts: list[str], port: int, tracking: str | None) -> str:
    """A commented `coordinator.yaml`."""
    loopback = all(host in {"127.0.0.1", "::1", "localhost"} for host in hosts)
    outside = Address(hosts[0], port)
    inside = outside if loopback else Address("0.0.0.0", port)  # noqa: S104 (to be reachable)
    uri = f'"{tracking}"' if tracking else "null"
    return f"""\
# A wardround coordinator. Beside this file: pki/, roster.json, accounts.json, state/.

# How sites and data scientists reach it; the host must be one of the certificate's.
address: "{outside}"

# Where it listens on this machine.
listen: "{inside}"

# An MLflow server (http:// or https://), or null. It is given aggregates only.
tracking:
  uri: {uri}

# In seconds: for one answer, for sites to come online or to approve. Then: attempts in a row
# that may be lost before a study fails.
waiting:
  answer: 3600
  join: 86400
  failures: 5

# Studies that may run at once.
studies: 16

# Health and Prometheus metrics on 127.0.0.1 (paths /healthz and /metrics); left out: off.
# metrics: 9465
"""
