"""The section `imaging` of site.yaml: where pictures come from, and which are let through."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field
from pydantic import model_validator as validator

from client.data.dicom.objects.gate import MODALITIES_AT_RISK, GatePolicy
from client.yaml_documents import contradiction
from protocol.document import Document

_UNITS = {"MiB": 2**20, "GiB": 2**30}


def _path(value: Any) -> Path:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value.strip():
        raise ValueError("not a path")
    return Path(value).expanduser()


def _size(value: Any) -> int:
    if type(value) is int:
        return value
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(MiB|GiB)", value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("no number with a unit")
    return int(float(found[1]) * _UNITS[found[2]])


def _title(value: Any) -> str:
    """An AE title (PS3.5, section 6.2: VR AE): 1 to 16 of the default repertoire."""
    if not isinstance(value, str) or not re.fullmatch(
        r"[!-\[\]-~]([ -\[\]-~]{0,14}[!-\[\]-~])?", value
    ):
        raise ValueError("not an AE title")
    return value


def _address(value: Any) -> str:
    found = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):(\d{1,5})", str(value))
    if not found or int(found[2]) > 65535:
        raise ValueError("not host:port")
    return str(value)


LocalPath = Annotated[Path, BeforeValidator(_path)]
Size = Annotated[int, BeforeValidator(_size)]
Title = Annotated[str, BeforeValidator(_title)]


class ReceiverTls(Document):
    """TLS 1.2 or newer, with certificates on both sides (PS3.15, B.12)."""

    certificate: LocalPath = Field(description="the path of this site's certificate, PEM")
    key: LocalPath = Field(description="the path of its private key, PEM, 0600")
    clients: LocalPath = Field(description="the path of the CA that senders must show, PEM")


class Receiver(Document):
    """DICOM Send to this site. Whoever is not named in `calling` is rejected."""

    ae_title: Title = Field(default="WARDROUND", description="1 to 16 characters")
    listen: Annotated[
        str,
        BeforeValidator(_address),
        Field(description="host:port, such as 0.0.0.0:11112 (port 0: any that is free)"),
    ] = "127.0.0.1:11112"
    calling: Annotated[
        tuple[Title, ...],
        Field(strict=False, description="a list of the AE titles that may send; none: nobody"),
    ] = ()
    store: LocalPath | None = Field(
        default=None, description="the path of a folder for what arrives; left out: state/dicom"
    )
    largest: Annotated[
        Size, Field(gt=0, description="a number with its unit, such as 512 MiB: most for an object")
    ] = 512 * 2**20
    floor: Annotated[
        Size,
        Field(
            ge=0, description="a number with its unit, such as 2 GiB: free space that stays free"
        ),
    ] = 2 * 2**30
    quiet: Annotated[
        int,
        Field(ge=1, le=86400, description="seconds without news after which a study is indexed"),
    ] = 60
    associations: Annotated[int, Field(ge=1, le=256, description="most senders at once")] = 16
    tls: ReceiverTls | None = Field(
        default=None, description="a mapping with certificate, key and clients; left out: no TLS"
    )

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)


class Imaging(Document):
    """Folders to index, what the gate lets through, and the receiver."""

    folders: Annotated[
        tuple[LocalPath, ...],
        Field(strict=False, description="a list of folders or DICOMDIRs, read where they are"),
    ] = ()
    accept_modalities: Annotated[
        tuple[str, ...],
        Field(
            strict=False,
            description="a list of modalities at risk of burned-in text that are let through "
            f"unless their pictures show some: any of {', '.join(sorted(MODALITIES_AT_RISK))}, or "
            "another whose objects are screen captures",
        ),
    ] = ()
    detect_text: bool = Field(
        default=True, description="true or false: look for burned-in text in every picture"
    )
    words: Annotated[
        tuple[str, ...],
        Field(
            strict=False,
            description="a list of words that may stay in a protocol's name beside the usual ones",
        ),
    ] = ()
    workers: Annotated[int, Field(ge=1, le=64, description="processes that read files")] = 2
    receiver: Receiver | None = Field(
        default=None, description="a mapping with ae_title, listen and calling; left out: none"
    )

    @validator(mode="after")
    def _sensible(self) -> Self:
        for modality in self.accept_modalities:
            if not re.fullmatch(r"[A-Z]{2,16}", modality):
                raise contradiction(
                    f"imaging.accept_modalities holds {modality}", "Write modalities as in [US, SC]"
                )
        for word in self.words:
            if not re.fullmatch(r"[a-z]{2,20}", word):
                raise contradiction(
                    f"imaging.words holds {word}", "Write words of lower-case letters a to z"
                )
        return self

    @property
    def gate(self) -> GatePolicy:
        return GatePolicy(frozenset(self.accept_modalities), self.detect_text)

    def store(self, state: Path) -> Path | None:
        """Where the receiver keeps what arrives; None where there is no receiver."""
        if self.receiver is None:
            return None
        return self.receiver.store or state / "dicom"

    def absolute(self, base: Path) -> Imaging:
        """With every path made absolute from the folder of site.yaml."""
        receiver = self.receiver
        if receiver is not None:
            tls = receiver.tls
            changes: dict[str, Any] = {"store": receiver.store and base / receiver.store}
            if tls is not None:
                paths = {name: base / path for name, path in tls}
                changes["tls"] = tls.model_copy(update=paths)
            receiver = receiver.model_copy(update=changes)
        folders = tuple(base / folder for folder in self.folders)
        return self.model_copy(update={"folders": folders, "receiver": receiver})
