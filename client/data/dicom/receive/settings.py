"""How the receiver listens: the section `imaging.receiver` of site.yaml."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from protocol.address import Address, ListenAddress
from protocol.document import Document
from protocol.yaml.values import LocalPath, SizeOrBytes


def _title(value: Any) -> str:
    """An AE title (PS3.5, section 6.2: VR AE): 1 to 16 of the default repertoire."""
    if not isinstance(value, str) or not re.fullmatch(
        r"[!-\[\]-~]([ -\[\]-~]{0,14}[!-\[\]-~])?", value
    ):
        raise ValueError("not an AE title")
    return value


Title = Annotated[str, BeforeValidator(_title)]


class ReceiverTls(Document):
    """TLS 1.2 or newer, with certificates on both sides (PS3.15, B.12)."""

    certificate: LocalPath = Field(description="the path of this site's certificate, PEM")
    key: LocalPath = Field(description="the path of its private key, PEM, 0600")
    clients: LocalPath = Field(description="the path of the CA that senders must show, PEM")


class ReceiverSettings(Document):
    """DICOM Send to this site. Whoever is not named in `calling` is rejected."""

    ae_title: Title = Field(default="WARDROUND", description="1 to 16 characters")
    listen: ListenAddress = Field(
        default="127.0.0.1:11112",
        description="host:port, such as 0.0.0.0:11112 (port 0: any that is free)",
    )
    calling: tuple[Title, ...] = Field(
        default=(), strict=False, description="a list of the AE titles that may send; none: nobody"
    )
    store: LocalPath | None = Field(
        default=None, description="the path of a folder for what arrives; left out: state/dicom"
    )
    largest: SizeOrBytes = Field(
        default=512 * 2**20,
        gt=0,
        description="a number with its unit, such as 512 MiB: most for an object",
    )
    floor: SizeOrBytes = Field(
        default=2 * 2**30,
        ge=0,
        description="a number with its unit, such as 2 GiB: free space that stays free",
    )
    quiet: int = Field(
        default=60,
        ge=1,
        le=86400,
        description="seconds without news after which a study is indexed",
    )
    associations: int = Field(default=16, ge=1, le=256, description="most senders at once")
    metrics: int | None = Field(
        default=None, ge=1, le=65535, description="a port on 127.0.0.1 for /healthz and /metrics"
    )
    tls: ReceiverTls | None = Field(
        default=None, description="a mapping with certificate, key and clients; left out: no TLS"
    )

    @property
    def address(self) -> Address:
        return Address.parse(self.listen)
