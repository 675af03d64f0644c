"""Which sites of a study add up together: those whose operators have confirmed one another's keys.

A newcomer's key counts at a site once its operator has compared the fingerprint by telephone. Until
then the two are not asked for the same sum, and everybody else goes on.
"""

from __future__ import annotations

from collections.abc import Iterable


class Confirmations:
    """What the sites said, with their standings, of one another's keys."""

    def __init__(self) -> None:
        self._unconfirmed: dict[str, frozenset[str]] = {}

    def note(self, site: str, unconfirmed: Iterable[str]) -> None:
        """The sites that this one has not confirmed, as it says now."""
        self._unconfirmed[site] = frozenset(unconfirmed)

    @property
    def lacking(self) -> frozenset[str]:
        """The sites that have not confirmed all others."""
        return frozenset(site for site, missing in self._unconfirmed.items() if missing)

    def together(self, sites: frozenset[str]) -> frozenset[str]:
        """As many of these sites as all confirmed one another; whoever fewer have confirmed is left
        out, so that a newcomer stands behind those who were there before."""
        left = set(sites)
        while strangers := self._strangers(left):
            worst = max(
                sorted(strangers),
                key=lambda site: (len(strangers[site]), self._doubted(site, left)),
            )
            left.remove(worst)
        return frozenset(left)

    def in_words(self, sites: frozenset[str]) -> tuple[str, ...]:
        """One sentence for each of these sites that has not confirmed another of them."""
        return tuple(
            f"{site} has not confirmed {', '.join(sorted(missing))}"
            for site, known in sorted(self._unconfirmed.items())
            if site in sites and (missing := known & sites)
        )

    def _strangers(self, sites: set[str]) -> dict[str, set[str]]:
        """Site -> those of the others with which it cannot add up, whichever of the two has not
        confirmed; sites without any are left out."""
        strangers: dict[str, set[str]] = {}
        for site in sites & self.lacking:
            for other in self._unconfirmed[site] & sites:
                strangers.setdefault(site, set()).add(other)
                strangers.setdefault(other, set()).add(site)
        return strangers

    def _doubted(self, site: str, others: set[str]) -> int:
        return sum(site in self._unconfirmed.get(other, ()) for other in others)
