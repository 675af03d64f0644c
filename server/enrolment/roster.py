"""The coordinator's roster: which hospitals may connect, and by which keys they are known.

A site enters by its enrolment card, whose fingerprint two people compare over the telephone. Its
number of patients is declared, rounded, once: a public constant, never a count that changes with
the cohort.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from protocol.document import Document
from protocol.errors import Code, WardroundError
from protocol.study.study import Digest, Name
from protocol.wire.enrolment import EnrolmentCard
from server.enrolment.json_store import JsonFile, changed


class RosterEntry(Document):
    """One enrolled site."""

    identity: Digest
    node_key: str
    patients: Annotated[int, Field(ge=1, le=10**9)]
    enrolled: str


class _RosterFile(Document):
    sites: dict[Name, RosterEntry] = Field(default={})


class Roster:
    """The roster file; read again when it has changed."""

    def __init__(self, path: Path) -> None:
        self._file = JsonFile(path, _RosterFile)

    def sites(self) -> dict[str, RosterEntry]:
        """Raises WardroundError(CONFIGURATION) where the file is unreadable."""
        return dict(sorted(self._file.value().sites.items()))

    def identities(self) -> dict[str, str]:
        """Site -> public identity key in hex."""
        return {name: entry.identity for name, entry in self.sites().items()}

    def add(self, card: EnrolmentCard, patients: int) -> RosterEntry:
        """Enrols a site; `patients` is rounded to what may be declared.

        Raises WardroundError(USAGE) for a name or a key that is on the roster already.
        """
        if patients < 1:
            raise WardroundError(
                Code.USAGE,
                f"--patients is {patients}.",
                remedy="Give the number of patients that the site declares for training.",
            )
        with changed(self._file) as (file, put):
            if card.site in file.sites:
                raise WardroundError(
                    Code.USAGE,
                    f"Site {card.site} is enrolled already.",
                    remedy=f"`wardround coordinator expel {card.site}` first, if its keys changed.",
                )
            for name, other in file.sites.items():
                if card.identity == other.identity or card.node_key == other.node_key:
                    raise WardroundError(
                        Code.USAGE,
                        f"Site {name} has one of the keys of this card.",
                        remedy="Every site makes keys of its own with `wardround-site init`.",
                    )
            entry = RosterEntry(
                identity=card.identity,
                node_key=card.node_key,
                patients=banded(patients),
                enrolled=datetime.now(UTC).isoformat(timespec="seconds"),
            )
            put(_RosterFile(sites=file.sites | {card.site: entry}))
        return entry

    def remove(self, name: str) -> None:
        """Expels a site. Raises WardroundError(USAGE) for one that is not enrolled."""
        with changed(self._file) as (file, put):
            if name not in file.sites:
                raise WardroundError(
                    Code.USAGE,
                    f"No site {name} is enrolled.",
                    remedy=f"Enrolled: {', '.join(sorted(file.sites)) or 'none'}.",
                )
            put(_RosterFile(sites={n: e for n, e in file.sites.items() if n != name}))

    def bundle(self, coordinator: str, ca: str, signing_key: str) -> dict[str, Any]:
        """What every site needs, and checks by fingerprints: address, CA, identities, and the
        public half of the key that signs models."""
        return {
            "coordinator": coordinator,
            "ca": ca,
            "roster": self.identities(),
            "signing_key": signing_key,
        }


def banded(patients: int) -> int:
    """A number of patients as it may be declared: two significant digits, rounded down."""
    unit: int = 10 ** max(0, len(str(patients)) - 2)
    return patients // unit * unit
