"""What a site knows of the other sites' keys, and with whom it adds up."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, Self

from protocol.errors import Code, WardroundError
from protocol.wire.roster import EMPTY, RosterHistory


class Roster(Protocol):
    """Where a site looks its roster up; a running one's changes."""

    def now(self) -> KnownRoster:
        """What is known at this moment."""
        ...


@dataclass(frozen=True)
class KnownRoster:
    """What a site knows of the keys of others at one moment.

    confirmed: site -> public identity key in hex, compared by telephone. history: what the
    coordinator signed. trouble: why the coordinator's latest roster was refused, else empty.
    """

    confirmed: Mapping[str, str]
    history: RosterHistory = EMPTY
    trouble: str = ""
    _at: dict[str | None, Mapping[str, str]] = field(default_factory=dict, repr=False)

    def now(self) -> Self:
        """This roster: one that never changes."""
        return self

    def keys(self, sites: Collection[str], version: str | None = None) -> dict[str, str]:
        """Site -> identity key in a study of these sites and this version of the roster.

        Raises WardroundError: IDENTITY for an unknown version, REFUSED_STUDY for unknown sites.
        """
        if version not in self._at:
            self._at[version] = dict(self.confirmed) | dict(self.history.keys_at(version))
        known = self._at[version]
        if unknown := sorted(site for site in sites if site not in known):
            raise WardroundError(
                Code.REFUSED_STUDY,
                f"The study's roster names sites that ours lacks: {', '.join(unknown)}.",
                remedy="Load the coordinator's new bundle with `wardround-site join`, or ask who "
                "they are.",
            )
        return {site: known[site] for site in sites}

    @property
    def names(self) -> frozenset[str]:
        """The sites of which any key is known."""
        return frozenset(self.confirmed) | frozenset(self.history.keys_at(None))

    def unconfirmed(self, keys: Mapping[str, str]) -> tuple[str, ...]:
        """Those of these sites whose key nobody has confirmed here, in alphabetical order."""
        counting = self._counting
        return tuple(
            sorted(site for site, key in keys.items() if key not in counting.get(site, ()))
        )

    @cached_property
    def _counting(self) -> Mapping[str, frozenset[str]]:
        """Site -> the keys of it that count here: looked up for every site in every sum."""
        return {site: self.history.heirs(site, self.confirmed.get(site)) for site in self.names}

    def to_confirm(self) -> tuple[str, ...]:
        """The sites of the coordinator's roster that wait for a telephone call."""
        return self.unconfirmed(self.history.keys)

    def attention(self) -> tuple[str, ...]:
        """What a person at this site should do about the roster, in sentences."""
        sentences = [
            f"This site has not confirmed {site}, and adds nothing up with it: compare its "
            f"fingerprint by telephone, then `wardround-site roster confirm {site}`."
            for site in self.to_confirm()
        ]
        return (*([self.trouble] if self.trouble else []), *sentences)

    def check_participants(self, keys: Mapping[str, str]) -> None:
        """What a site asks, in every mode, of the sites with which it adds up: site -> key.

        Raises WardroundError(IDENTITY) where a key is revoked or not confirmed here.
        """
        if revoked := sorted(s for s, key in keys.items() if key in self.history.revoked):
            raise WardroundError(
                Code.IDENTITY,
                f"The key of {', '.join(revoked)} is revoked; no sum holds it.",
                remedy="The coordinator leaves such a site out. It returns with a new key only.",
            )
        if strangers := self.unconfirmed(keys):
            raise WardroundError(
                Code.IDENTITY,
                f"This site has not confirmed {', '.join(strangers)}.",
                remedy=f"Compare the fingerprint by telephone, then `wardround-site roster confirm "
                f"{strangers[0]}`.",
            )
