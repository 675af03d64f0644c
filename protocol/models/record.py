"""What a registered model consists of, by SHA-256, signed by the coordinator whose study made it.

The record lies in tags of the model version and of the run. Whoever can change MLflow can change
the record too, but not sign another: the key is the coordinator's, its public half comes with
credentials and bundles. A study that ran without a coordinator leaves an unsigned record, which
tells a change of the artifact store from what is in MLflow's database, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, ValidationError

from protocol.document import Document, canonical, digest
from protocol.errors import Code, WardroundError
from protocol.identity import Identity, fingerprint, verify
from protocol.study.study import Digest

PURPOSE = "wardround model record"
RECORD, SIGNER, SIGNATURE = "wardround.record", "wardround.signer", "wardround.signature"
"""Tags: the record as it was signed, the public key and the signature in hexadecimal."""
ARTIFACT = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$"
_LONGEST = 8000
_AGAIN = "Do not use the model; ask who keeps MLflow, and take it from the coordinator again."


class ModelRecord(Document):
    """One version of a registered model: the study that made it and what its files hold."""

    format: Literal[1] = 1
    study: Digest
    model: Annotated[str, StringConstraints(max_length=256)]
    version: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9}$")]
    weights: Digest
    """Of (P,) float32 little-endian, as `protocol.vectors.weights_digest` makes it."""
    files: Annotated[
        dict[Annotated[str, StringConstraints(pattern=ARTIFACT, max_length=200)], Digest],
        Field(min_length=1, max_length=50),
    ]
    """Path below the model's folder -> SHA-256 of the file. There are no others."""


@dataclass(frozen=True)
class SignedRecord:
    """A record in its own bytes, and who signed them; both empty where nobody did."""

    record: ModelRecord
    text: str
    signer: str = ""
    signature: str = ""

    @staticmethod
    def make(record: ModelRecord, key: Identity | None) -> SignedRecord:
        """The record, signed where there is a key."""
        text = canonical(record.model_dump(mode="json")).decode()
        if key is None:
            return SignedRecord(record, text)
        signature = key.sign(PURPOSE, text.encode()).hex()
        return SignedRecord(record, text, key.public_key.hex(), signature)

    @staticmethod
    def of_tags(tags: Mapping[str, str]) -> SignedRecord | None:
        """The record that tags hold, unchecked; None where they hold none.

        Raises WardroundError(WEIGHTS) where it is malformed.
        """
        text = tags.get(RECORD, "")
        if not text:
            return None
        try:
            record = ModelRecord.model_validate_json(text[:_LONGEST])
        except ValidationError:
            raise WardroundError(
                Code.WEIGHTS, "The model's record is malformed.", remedy=_AGAIN
            ) from None
        return SignedRecord(record, text, tags.get(SIGNER, ""), tags.get(SIGNATURE, ""))

    @property
    def tags(self) -> dict[str, str]:
        """As MLflow keeps it."""
        signed = {SIGNER: self.signer, SIGNATURE: self.signature} if self.signer else {}
        return {RECORD: self.text, **signed}

    def is_signed_by(self, public_key: bytes) -> bool:
        """Whether the holder of this key signed these very bytes; the tag `signer` counts for
        nothing."""
        try:
            signature = bytes.fromhex(self.signature)
        except ValueError:
            return False
        return verify(public_key, PURPOSE, self.text.encode(), signature)

    @property
    def signer_fingerprint(self) -> str:
        """Of the key that it names; "nobody" where it names none that could be."""
        try:
            return fingerprint(bytes.fromhex(self.signer)) if self.signer else "nobody"
        except ValueError:
            return "nobody"


def digests_of(folder: Path) -> dict[str, str]:
    """Every file below a folder: its path in it -> SHA-256."""
    return {
        path.relative_to(folder).as_posix(): digest(path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
