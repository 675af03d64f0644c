"""The section `policy.predict` of site.yaml: which released models may score patients, and how."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import Field
from pydantic import model_validator as validator

from client.config.hours import Hours
from client.data.dicom.receive.settings import Title
from protocol.address import RemoteAddress
from protocol.document import Document
from protocol.study.study import Digest
from protocol.yaml.documents import contradiction
from protocol.yaml.values import LocalPath, YamlList

Word = Annotated[str, Field(pattern=r"^[A-Z0-9_ ]{1,16}$")]
"""A code string of DICOM (PS3.5, section 6.2)."""


class ModelRules(Document):
    """What one model may be used for. Pictures outside of it are not scored."""

    unapproved: bool = Field(
        default=False,
        description="true or false: whether it may be used although no reviewer has approved it",
    )
    modalities: YamlList[Word] = Field(
        default=(), description="a list of modalities whose pictures it may score, such as [DX, CR]"
    )
    body_parts: YamlList[Word] | None = Field(
        default=None, description="a list of body parts, such as [CHEST]; left out: any"
    )
    views: YamlList[Word] | None = Field(
        default=None, description="a list of view positions, such as [PA, AP]; left out: any"
    )
    watch: bool = Field(
        default=False,
        description="true or false: whether what it says, and what it was given, is kept here to "
        "be counted by `wardround query drift`",
    )
    explain: bool = Field(
        default=False,
        description="true or false: whether results say what they rest on: each column's "
        "contribution or, for a picture, a map of where covering it changes the score",
    )
    send_to: YamlList[Title] = Field(
        default=(),
        description="a list of the AE titles, of policy.predict.destinations, that its reports "
        "are sent to",
    )

    def outside(self, image: Mapping[str, str | None]) -> str:
        """Why an image, by columns of the index, is outside the intended use; "" if it is not."""
        for column, allowed in (
            ("modality", self.modalities),
            ("body_part", self.body_parts),
            ("view_position", self.views),
        ):
            if allowed is not None and image[column] not in allowed:
                return f"outside the intended use by its {column.replace('_', ' ')}"
        return ""


class SenderTls(Document):
    """TLS 1.2 or newer to a destination, with certificates on both sides (PS3.15, B.12)."""

    certificate: LocalPath = Field(description="the path of this site's certificate, PEM")
    key: LocalPath = Field(description="the path of its private key, PEM, 0600")
    servers: LocalPath = Field(
        description="the path of the CA of the destination's certificate, PEM"
    )


class Predict(Document):
    """Rules of prediction. A model that is not listed scores nobody."""

    models: dict[Digest, ModelRules] = Field(
        default={},
        description="a mapping from the digest of a bundle, as `wardround models verify` shows it, "
        "to what that model may be used for",
    )
    hours: YamlList[Hours] = Field(
        default=(),
        description="when patients may be scored, as policy.hours; left out: at any time",
    )
    regulatory_identifier: Annotated[str, Field(min_length=1, max_length=64)] | None = Field(
        default=None,
        description="under which registration results are for clinical use; left out: every result "
        "says that it is not for diagnosis",
    )

    ae_title: Title = Field(
        default="WARDROUND", description="1 to 16 characters: by which name reports are sent"
    )
    destinations: dict[Title, RemoteAddress] = Field(
        default={},
        description="a mapping from the AE titles that reports may be sent to, to host:port",
    )

    tls: dict[Title, SenderTls] = Field(
        default={},
        description="a mapping from AE titles of destinations to certificate, key and servers; a "
        "destination that is not in it is sent to in clear",
    )

    @validator(mode="after")
    def _known_destinations(self) -> Self:
        if unknown := sorted(self.tls.keys() - self.destinations.keys()):
            raise contradiction(
                f"policy.predict.tls names {unknown[0]}, which is no destination",
                "Add it to policy.predict.destinations with host:port, or take it out",
            )
        for rules in self.models.values():
            if unknown := sorted(set(rules.send_to) - set(self.destinations)):
                raise contradiction(
                    f"policy.predict.models sends to {unknown[0]}, which is no destination",
                    "Add it to policy.predict.destinations with host:port, or take it out",
                )
        return self

    @property
    def notice(self) -> str:
        """What every result says of its use."""
        if self.regulatory_identifier is None:
            return "Not for diagnosis. For research only."
        return f"Regulatory identifier: {self.regulatory_identifier}."
