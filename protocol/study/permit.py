"""The permit under which a study asks for data, and the signature of a person whom it names.

A data permit of the European Health Data Space (Regulation (EU) 2025/327, articles 67 and 68) or an
ethics vote names who may process data, for what and until when. What a study says of it is a claim:
each hospital compares it with what its own operator has entered. That a named person stands behind
this very study is proved by an Ed25519 signature over the study's document with an empty signature
in it; it is then part of the document, and of its digest.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Self

from pydantic import Field, StringConstraints
from pydantic import model_validator as validator

from protocol.document import Document, canonical, read_canonical
from protocol.errors import Code, WardroundError
from protocol.identity import Identity, verify
from protocol.study.query import Label

_PURPOSE = "study under a permit"
PublicKey = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Permit(Document):
    """What a study says of its permit. `identifier`: of the permit or the ethics vote;
    `legal_basis`: by which data may be processed; `persons`: all whom it names; `expires`: its last
    day (UTC); `person` and `public_key`: who signs."""

    identifier: Label
    legal_basis: Label
    persons: Annotated[tuple[Label, ...], Field(min_length=1, max_length=100, strict=False)]
    expires: Annotated[str, StringConstraints(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    person: Label
    public_key: PublicKey
    signature: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{128})?$")] = ""

    @validator(mode="after")
    def _consistent(self) -> Self:
        try:
            date.fromisoformat(self.expires)
        except ValueError:
            raise ValueError("expires is a day, such as 2027-03-31") from None
        if self.person not in self.persons:
            raise ValueError("person is none of the persons whom the permit names")
        return self


def sign(document: bytes, identity: Identity) -> str:
    """The signature of a study's canonical document, in hex."""
    return identity.sign(_PURPOSE, _signed(document)).hex()


def check_signature(document: bytes, permit: Permit) -> None:
    """Raises WardroundError(REFUSED_STUDY) unless the key that the permit states has signed this
    very document."""
    signature = bytes.fromhex(permit.signature)
    if not verify(bytes.fromhex(permit.public_key), _PURPOSE, _signed(document), signature):
        raise WardroundError(
            Code.REFUSED_STUDY,
            f"The study is not signed by {permit.person}, whom its permit names.",
            remedy="Whoever submits it signs it with the key that the hospitals have entered.",
        )


def _signed(document: bytes) -> bytes:
    plain = read_canonical(document)
    plain["permit"] = plain["permit"] | {"signature": ""}
    return canonical(plain)
