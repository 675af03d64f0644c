"""The section `imaging` of site.yaml: where pictures come from, and which may be used."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field
from pydantic import model_validator as validator

from client.data.dicom.objects.gate import MODALITIES_AT_RISK, GatePolicy
from client.data.dicom.receive.settings import ReceiverSettings
from protocol.document import Document
from protocol.yaml.documents import contradiction
from protocol.yaml.values import LocalPath, YamlList


class Imaging(Document):
    """Folders to index, what the gate accepts, and the receiver."""

    folders: YamlList[LocalPath] = Field(
        default=(), description="a list of folders or DICOMDIRs, read where they are"
    )
    accept_modalities: YamlList[str] = Field(
        default=(),
        description="a list of modalities at risk of burned-in text that are let through unless "
        f"their pictures show some: any of {', '.join(sorted(MODALITIES_AT_RISK))}, or another "
        "whose objects are screen captures",
    )
    detect_text: bool = Field(
        default=True, description="true or false: look for burned-in text in every picture"
    )
    words: YamlList[str] = Field(
        default=(),
        description="a list of words that may stay in a protocol's name beside the usual ones",
    )
    workers: Annotated[int, Field(ge=1, le=64, description="processes that read files")] = 2
    receiver: ReceiverSettings | None = Field(
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
        """Returns the folder in which the receiver stores objects; None without a receiver."""
        if self.receiver is None:
            return None
        return self.receiver.store or state / "dicom"

    def absolute(self, base: Path) -> Imaging:
        """Returns this section with every path made absolute, from the folder of site.yaml."""
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
