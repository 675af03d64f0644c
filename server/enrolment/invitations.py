"""Invitations: which hospitals may hand in a card, and the cards that wait for the operator.

A card that came with the right token is still a stranger's until its fingerprints have been
compared by telephone: only then does it enter the roster. A token is random (256 bits), stored as
its SHA-256, and takes one card: who comes with another one later is refused.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from pathlib import Path

from pydantic import Field

from protocol.document import Document
from protocol.errors import Code, WardroundError
from protocol.study.study import Digest, Name
from protocol.wire.enrolment import EnrolmentCard
from server.enrolment.json_store import JsonFile, changed


class Invited(Document):
    """A hospital with an invitation. `patients`: what it declares; `card`: what it handed in."""

    token_sha256: Digest
    patients: int = Field(ge=1)
    card: EnrolmentCard | None = None


class _InvitationsFile(Document):
    sites: dict[Name, Invited] = Field(default={})


class Invitations:
    """The file of invitations; read again when it has changed."""

    def __init__(self, path: Path) -> None:
        self._file = JsonFile(path, _InvitationsFile)

    def all(self) -> dict[str, Invited]:
        """Raises WardroundError(CONFIGURATION) where the file is unreadable."""
        return dict(sorted(self._file.value().sites.items()))

    def add(self, site: str, patients: int, deliver: Callable[[str], None]) -> None:
        """Invites a hospital. deliver: stores the only copy of the token, before the invitation
        counts. Raises WardroundError(USAGE) where it is invited already."""
        with changed(self._file) as (file, put):
            if site in file.sites:
                raise WardroundError(
                    Code.USAGE,
                    f"{site} has an invitation already.",
                    remedy=f"`wardround coordinator withdraw {site}`, and set up again.",
                )
            token = secrets.token_urlsafe(32)
            deliver(token)
            invited = Invited(token_sha256=_hashed(token), patients=patients)
            put(_InvitationsFile(sites=file.sites | {site: invited}))

    def withdraw(self, site: str) -> None:
        """Its token is refused from now on, and its card forgotten.

        Raises WardroundError(USAGE) where there is none."""
        with changed(self._file) as (file, put):
            if site not in file.sites:
                raise WardroundError(
                    Code.USAGE,
                    f"{site} has no invitation.",
                    remedy=f"Invited: {', '.join(sorted(file.sites)) or 'nobody'}.",
                )
            put(_InvitationsFile(sites={n: i for n, i in file.sites.items() if n != site}))

    def site_of(self, token: str) -> str | None:
        """Whose token it is; None for nobody's. All hashes are compared, in constant time."""
        hashed, found = _hashed(token), None
        for site, invited in self.all().items():
            if hmac.compare_digest(invited.token_sha256, hashed):
                found = site
        return found

    def hand_in(self, site: str, card: EnrolmentCard) -> None:
        """Keeps a card for the operator; the same card again changes nothing.

        Raises WardroundError(IDENTITY) for a card of another site, or another card than before.
        """
        with changed(self._file) as (file, put):
            invited = file.sites[site]
            if card.site != site or invited.card not in (None, card):
                raise WardroundError(
                    Code.IDENTITY,
                    f"The invitation of {site} does not take this card: another one came first, "
                    "or it is another hospital's.",
                    remedy="Call the coordinator's operator: someone else may have used the "
                    f"invitation. `wardround coordinator withdraw {site}` makes place for a new "
                    "one.",
                )
            if invited.card is None:
                known = invited.model_copy(update={"card": card})
                put(_InvitationsFile(sites=file.sites | {site: known}))


def _hashed(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()
