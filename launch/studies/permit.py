"""The permit under which a data scientist submits studies: a YAML file and a key of his or her own.

identifier: DAR-2026-0417          # of the permit or the ethics vote
legal_basis: Regulation (EU) 2025/327, article 68
persons: [Ada Byron, Max Huber]    # all whom it names
expires: "2027-03-31"
person: Ada Byron                  # who signs
key: ada.pem                       # made by `wardround key ada.pem`; beside this file
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from protocol.document import Document, first_fault
from protocol.errors import Code, WardroundError
from protocol.identity import Identity
from protocol.study.permit import Permit, sign
from protocol.study.query import Label
from protocol.study.study import Study
from protocol.yaml.documents import read_yaml, validate
from protocol.yaml.values import LocalPath, YamlList

_REMEDY = "`wardround run --info` says what `permit` is; docs/studies.md has an example."
KEY = "Make one with `wardround key FILE`, and give the hospitals its public half."


class PermitFile(Document):
    """The file's content."""

    identifier: Label = Field(description="the number of the permit or the ethics vote")
    legal_basis: Label = Field(description="by which data may be processed, in words")
    persons: Annotated[YamlList[Label], Field(min_length=1)] = Field(
        description="a list of the persons whom it names"
    )
    expires: str = Field(description='its last day (UTC), such as "2027-03-31", in quotes')
    person: Label = Field(description="the one of them who signs")
    key: LocalPath = Field(description="the path of the key that `wardround key` made")


def under_permit(study: Study, file: str | Path | None) -> Study:
    """The study with the permit in `file`, signed; as it is without one. Nothing of it may change
    afterwards. Raises WardroundError: CONFIGURATION for the file, IDENTITY for its key."""
    if not file:
        return study
    path = Path(file).expanduser()
    read = validate(PermitFile, read_yaml(path, _REMEDY), str(path))
    key = Identity.load(path.resolve().parent / read.key, what="key", remedy=KEY)
    stated = read.model_dump(exclude={"key"}) | {"public_key": key.public_key.hex()}
    try:
        unsigned = study.model_copy(update={"permit": Permit.model_validate(stated)})
    except ValidationError as error:
        where, what, _ = first_fault(error)
        raise WardroundError(
            Code.CONFIGURATION, f"{path}: {where or 'permit'}: {what}.", remedy=_REMEDY
        ) from None
    signature = sign(unsigned.document, key)
    signed = Permit.model_validate(stated | {"signature": signature})
    return unsigned.model_copy(update={"permit": signed})
