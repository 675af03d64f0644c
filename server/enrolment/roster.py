"""The coordinator's roster: which hospitals may connect, and by which keys they are known.

The file holds the entries and the signed history of all changes, which is what sites are given. A
site enters by its enrolment card, whose fingerprint two people compare over the telephone. Its
number of patients is declared, rounded, once: a public constant, never a count that changes with
the cohort.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from protocol.document import Document, added_field
from protocol.errors import Code, WardroundError
from protocol.study.study import Digest, Name, Study
from protocol.wire.enrolment import EnrolmentCard
from protocol.wire.roster import EMPTY, RosterHistory, SignedChange
from server.enrolment.json_store import JsonFile, changed
from server.enrolment.signing_key import signing_key


class RosterEntry(Document):
    """One enrolled site."""

    identity: Digest
    node_key: str
    patients: Annotated[int, Field(ge=1, le=10**9)]
    enrolled: str


class _RosterFile(Document):
    sites: dict[Name, RosterEntry] = Field(default={})
    history: tuple[SignedChange, ...] = added_field((), strict=False)


class Roster:
    """The roster file; read again when it has changed."""

    def __init__(self, path: Path) -> None:
        """path: roster.json, beside the coordinator's signing key."""
        self._file = JsonFile(path, _RosterFile)
        self._folder = path.parent
        self._read: tuple[_RosterFile, RosterHistory] | None = None

    def sites(self) -> dict[str, RosterEntry]:
        """Raises WardroundError(CONFIGURATION) where the file is unreadable."""
        return dict(sorted(self._file.value().sites.items()))

    def identities(self) -> dict[str, str]:
        """Site -> public identity key in hex."""
        return {name: entry.identity for name, entry in self.sites().items()}

    def history(self) -> RosterHistory:
        """All changes, signed. Those of a roster of 0.1.0, which has none, are written first.

        Raises WardroundError: CONFIGURATION where the file is unreadable, IDENTITY for the key.
        """
        read, file = self._read, self._file.value()
        if read is None or read[0] is not file:
            history = self._history(file)
            if history.signed != file.history:
                with changed(self._file) as (file, put):
                    history = self._history(file)
                    put(_RosterFile(sites=file.sites, history=history.signed))
                file = self._file.value()
            read = self._read = (file, history)
        return read[1]

    def keys(self, study: Study) -> dict[str, str]:
        """Site -> public identity key in hex, as a study's roster has them.

        Raises WardroundError(IDENTITY) for a site that never was enrolled, or an unknown version.
        """
        known = self.history().keys_at(study.roster_version)
        if unknown := sorted(set(study.sites) - set(known)):
            raise WardroundError(
                Code.IDENTITY,
                f"Not on this coordinator's roster: {', '.join(unknown)}.",
                remedy="Enrol them, or submit a study without them.",
            )
        return {site: known[site] for site in study.sites}

    def revoked(self, study: Study) -> frozenset[str]:
        """The study's sites whose keys no sum may hold any more."""
        revoked = self.history().revoked
        return frozenset(site for site, key in self.keys(study).items() if key in revoked)

    def _history(self, file: _RosterFile) -> RosterHistory:
        """What a file says, under this coordinator's key, with all its sites."""
        signer = signing_key(self._folder)
        history = EMPTY.extended(None, file.history).signed_by(signer)
        for name, entry in sorted(file.sites.items()):
            if name not in history.keys:
                history = history.appended(signer, "enrol", name, entry.identity)
        return history

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
                    remedy="Where its keys changed: `wardround coordinator rotate CARD`.",
                )
            _refuse_foreign_keys(file, card)
            entry = RosterEntry(
                identity=card.identity,
                node_key=card.node_key,
                patients=banded(patients),
                enrolled=datetime.now(UTC).isoformat(timespec="seconds"),
            )
            history = self._history(file)
            if card.identity in history.revoked:
                raise WardroundError(
                    Code.USAGE,
                    f"The identity key of {card.site} is revoked for good.",
                    remedy="The site makes new keys, and sends a new card.",
                )
            history = history.appended(signing_key(self._folder), "enrol", card.site, card.identity)
            put(_RosterFile(sites=file.sites | {card.site: entry}, history=history.signed))
        return entry

    def entry(self, name: str) -> RosterEntry:
        """Raises WardroundError(USAGE) for a site that is not enrolled."""
        return _enrolled(self._file.value(), name)

    def rotate(self, card: EnrolmentCard) -> None:
        """Replaces a site's keys by those of a new card: the node key at once, the identity key in
        studies that are submitted from now on. Other sites take a new identity over by itself where
        the old one signed it; else each operator confirms it by telephone.

        Raises WardroundError(USAGE) for a site that is not enrolled, a key of another site, or a
        card that changes nothing.
        """
        with changed(self._file) as (file, put):
            old = _enrolled(file, card.site)
            _refuse_foreign_keys(file, card)
            if (card.identity, card.node_key) == (old.identity, old.node_key):
                raise WardroundError(
                    Code.USAGE,
                    f"The card has the keys that {card.site} is enrolled with.",
                    remedy="Make new ones there with `wardround-site roster rotate`.",
                )
            history = self._history(file)
            if card.identity != old.identity:
                signer = signing_key(self._folder)
                history = history.appended(
                    signer, "replace", card.site, card.identity, card.handover
                )
            keys = {"identity": card.identity, "node_key": card.node_key}
            sites = file.sites | {card.site: old.model_copy(update=keys)}
            put(_RosterFile(sites=sites, history=history.signed))

    def remove(self, name: str) -> None:
        """Expels a site and revokes its identity key, for good.

        Raises WardroundError(USAGE) for one that is not enrolled.
        """
        with changed(self._file) as (file, put):
            _enrolled(file, name)
            history = self._revoked(self._history(file), name)
            sites = {n: e for n, e in file.sites.items() if n != name}
            put(_RosterFile(sites=sites, history=history.signed))

    def revoke_former(self, name: str) -> None:
        """Revokes, for good, the identity keys that a site had before the one that it is enrolled
        with. Older studies, which hold one of them, go on without it or end, as for an expelled
        site.

        Raises WardroundError(USAGE) for a site that is not enrolled, or has no such key.
        """
        with changed(self._file) as (file, put):
            current = _enrolled(file, name).identity
            before = self._history(file)
            history = self._revoked(before, name, frozenset({current}))
            if history.number == before.number:
                raise WardroundError(
                    Code.USAGE,
                    f"{name} has had no other key that is not revoked.",
                    remedy="To revoke the one that it has: `wardround coordinator expel`. To give "
                    "it another first: `wardround coordinator rotate CARD`.",
                )
            put(_RosterFile(sites=file.sites, history=history.signed))

    def _revoked(
        self, history: RosterHistory, name: str, but: frozenset[str] = frozenset()
    ) -> RosterHistory:
        """With all keys of a site revoked that are not, `but` these."""
        for key in sorted(history.held(name) - history.revoked - but):
            history = history.appended(signing_key(self._folder), "revoke", name, key)
        return history

    def bundle(self, coordinator: str, ca: str, public_key: str) -> dict[str, Any]:
        """What every site needs, and checks by fingerprints: address, CA, identities, and the
        public half of the key that signs models and the history of the roster."""
        return {
            "coordinator": coordinator,
            "ca": ca,
            "roster": self.identities(),
            "signing_key": public_key,
            "history": [signed.model_dump() for signed in self.history().signed],
        }


def _enrolled(file: _RosterFile, name: str) -> RosterEntry:
    if name not in file.sites:
        raise WardroundError(
            Code.USAGE,
            f"No site {name} is enrolled.",
            remedy=f"Enrolled: {', '.join(sorted(file.sites)) or 'none'}.",
        )
    return file.sites[name]


def _refuse_foreign_keys(file: _RosterFile, card: EnrolmentCard) -> None:
    for name, other in file.sites.items():
        same = card.identity == other.identity or card.node_key == other.node_key
        if same and name != card.site:
            raise WardroundError(
                Code.USAGE,
                f"Site {name} has one of the keys of this card.",
                remedy="Every site makes keys of its own with `wardround-site init`.",
            )


def banded(patients: int) -> int:
    """A number of patients as it may be declared: two significant digits, rounded down."""
    unit: int = 10 ** max(0, len(str(patients)) - 2)
    return patients // unit * unit
