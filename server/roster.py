"""The coordinator's roster: which hospitals may connect, and by which keys they are known.

A site enters by its enrolment card, whose fingerprint two people compare over the telephone. Its
number of patients is declared, rounded, once: a public constant, never a count that changes with
the cohort.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from pydantic import Field, StringConstraints, ValidationError

from protocol.errors import Code, WardroundError
from protocol.identity import fingerprint
from protocol.study import Digest, Document, Name
from server.watched import Watched, changed

_CARD_LIMIT = 16 * 1024


class Card(Document):
    """What `wardround-site enrol` prints: a site's name and its two public keys."""

    site: Name
    identity: Digest
    node_key: Annotated[str, StringConstraints(max_length=4096)]

    @staticmethod
    def load(path: Path) -> Card:
        """Raises WardroundError(USAGE), or (NODE_KEY) where the key is not ECDSA P-384."""
        again = "Ask the site for the file that `wardround-site enrol` printed."
        try:
            card = Card.model_validate_json(path.read_bytes()[:_CARD_LIMIT])
        except OSError as error:
            raise WardroundError(
                Code.USAGE, f"The card {path} cannot be read: {error.strerror}.", remedy=again
            ) from None
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "the file"
            raise WardroundError(
                Code.USAGE,
                f"{path} is not an enrolment card: {where}: {first['msg']}.",
                remedy=again,
            ) from None
        try:
            key = load_pem_public_key(card.node_key.encode())
        except (ValueError, UnsupportedAlgorithm):
            key = None
        if not (isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP384R1)):
            raise WardroundError(
                Code.NODE_KEY,
                f"The node key in {path} is not an ECDSA P-384 public key in PEM.",
                remedy=again,
            )
        return card

    @property
    def identity_fingerprint(self) -> str:
        """For the telephone."""
        return fingerprint(bytes.fromhex(self.identity))

    @property
    def node_fingerprint(self) -> str:
        """For the telephone."""
        return fingerprint(self.node_key.strip().encode())


class Entry(Document):
    """One enrolled site."""

    identity: Digest
    node_key: str
    patients: Annotated[int, Field(ge=1, le=10**9)]
    enrolled: str


class _File(Document):
    sites: dict[Name, Entry] = Field(default={})


class Roster:
    """The roster file; read anew when it has changed."""

    def __init__(self, path: Path) -> None:
        self._file = Watched(path, _File)

    def sites(self) -> dict[str, Entry]:
        """Raises WardroundError(CONFIGURATION) where the file is unreadable."""
        return dict(sorted(self._file.value().sites.items()))

    def identities(self) -> dict[str, str]:
        """Site -> public identity key in hex."""
        return {name: entry.identity for name, entry in self.sites().items()}

    def add(self, card: Card, patients: int) -> Entry:
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
            entry = Entry(
                identity=card.identity,
                node_key=card.node_key,
                patients=banded(patients),
                enrolled=datetime.now(UTC).isoformat(timespec="seconds"),
            )
            put(_File(sites=file.sites | {card.site: entry}))
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
            put(_File(sites={n: e for n, e in file.sites.items() if n != name}))

    def bundle(self, coordinator: str, ca: str) -> dict[str, Any]:
        """What every site needs, and checks by fingerprints: address, CA, identities."""
        return {"coordinator": coordinator, "ca": ca, "roster": self.identities()}


def banded(patients: int) -> int:
    """A number of patients as it may be declared: two significant digits, rounded down."""
    unit: int = 10 ** max(0, len(str(patients)) - 2)
    return patients // unit * unit
