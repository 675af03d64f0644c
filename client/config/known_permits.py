"""The permits that a hospital's operator has entered, and whether a study is made under one.

A coordinator's word counts for nothing here: identifier, persons, their keys and the last day are
those of site.yaml.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from datetime import date
from typing import Self

from pydantic import Field
from pydantic import model_validator as validator

from protocol.document import Document
from protocol.errors import WardroundError
from protocol.study.permit import PublicKey, check_signature
from protocol.study.query import Label
from protocol.study.study import Name, Study
from protocol.yaml.documents import contradiction
from protocol.yaml.values import YamlList


class KnownPermit(Document):
    """One permit or ethics vote, as the hospital has it on paper."""

    identifier: Label = Field(description="its number, as it stands on the permit")
    expires: str = Field(description='its last day (UTC), such as "2027-03-31", in quotes')
    persons: dict[Label, PublicKey] = Field(
        min_length=1,
        description="a mapping from each person whom it names to the public key that this person "
        "has given you (64 hex digits, `wardround key`)",
    )
    tasks: YamlList[Name] = Field(
        default=(), description="a list of the tasks that it is for; left out: all"
    )

    @validator(mode="after")
    def _a_day(self) -> Self:
        with suppress(ValueError):
            if date.fromisoformat(self.expires).isoformat() == self.expires:
                return self
        raise contradiction("expires is no day", 'Write "2027-03-31", in quotes')


def objection(permits: Iterable[KnownPermit], study: Study, today: str) -> str:
    """Why none of these permits covers a study on the day `today` (UTC, 2027-03-31); empty where
    one does. It quotes what the study says, never what the hospital has entered."""
    stated = study.permit
    if stated is None:
        return "asks for a permit, and the study states none"
    known = next((one for one in permits if one.identifier == stated.identifier), None)
    if known is None:
        return f"has no permit {stated.identifier}"
    if min(known.expires, stated.expires) < today:
        return f"says that the permit {stated.identifier} has expired"
    if known.tasks and study.task.name not in known.tasks:
        return f"says that the permit {stated.identifier} is not for the task {study.task.name}"
    if known.persons.get(stated.person) != stated.public_key:
        return f"does not name {stated.person} with this key in the permit {stated.identifier}"
    try:
        check_signature(study.document, stated)
    except WardroundError as error:
        return f"refuses a signature: {error.message.rstrip('.')}"
    return ""
