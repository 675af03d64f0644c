"""people.json: who may log in to a federation's MLflow, and as what.

A password is made by a machine, with 192 bits from the operating system, so that its plain SHA-256
can be neither guessed nor found in a table (as for accounts, `server/enrolment/accounts.py`).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from protocol.document import Document
from protocol.study.study import Digest, Name
from server.enrolment.json_store import JsonFile, write_json

FILE = "people.json"
Part = Literal["coordinator", "data_scientist", "reviewer"]
"""What somebody may do in MLflow (`roles.may`). Hospitals have no part in it."""


class Person(Document):
    password_sha256: Digest
    part: Part


class _File(Document):
    people: dict[Name, Person] = Field(default={})


class People:
    """The file in MLflow's folder; read again whenever it has changed."""

    def __init__(self, home: Path) -> None:
        self._file = JsonFile(home / FILE, _File)

    def all(self) -> dict[str, Person]:
        """Raises WardroundError(CONFIGURATION) where the file is not what it should be."""
        return self._file.value().people

    def part(self, name: str, password: str) -> Part | None:
        """The part of somebody who knows the password; None for everybody else."""
        given = _digest(password)
        person = self.all().get(name)
        known = hmac.compare_digest(given, person.password_sha256 if person else "0" * 64)
        return person.part if person and known else None

    def without_password(self, parts: Mapping[str, Part]) -> list[str]:
        """Those of them who are new here, or have another part now."""
        known = self.all()
        return [name for name in parts if name not in known or known[name].part != parts[name]]

    def put(self, parts: Mapping[str, Part], deliver: Callable[[str, str], None]) -> None:
        """Makes these, and nobody else, the people who may log in.

        deliver: gets name and new password of everybody `without_password`, before it holds; where
        that raises, nothing changes. The password stands nowhere else.
        """
        people = {name: person for name, person in self.all().items() if name in parts}
        for name in self.without_password(parts):
            password = secrets.token_urlsafe(24)
            deliver(name, password)
            people[name] = Person(password_sha256=_digest(password), part=parts[name])
        write_json(self._file.path, _File(people=people).model_dump(mode="json"))


def _digest(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()
