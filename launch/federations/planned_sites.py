"""Whether the sites that are here are those that a study was planned for: its noise, its sums and
its epsilon are, so that one more or less makes it another study."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from protocol.errors import Code, WardroundError

_NAMED = 3
"""Sites of a kind that a message names."""


def require_planned(planned: Collection[str], here: Collection[str]) -> None:
    """Raises WardroundError(USAGE), naming them, where sites are missing or not planned."""
    if set(planned) != set(here):
        told = difference(dict.fromkeys(planned, 0), dict.fromkeys(here, 0))
        raise WardroundError(
            Code.USAGE,
            f"The study was planned for other sites: {told}.",
            remedy="Bring back the sites as they were, choose some with federation.sites, or plan "
            "a study for those that are here.",
        )


def difference(planned: Mapping[str, int], here: Mapping[str, int]) -> str:
    """Which sites are not as planned, each with its number of patients; the names of the first
    three of a kind."""
    kinds = {
        "not planned": sorted(here.keys() - planned.keys()),
        "missing": sorted(planned.keys() - here.keys()),
        "with another number of patients": sorted(
            site for site in here.keys() & planned.keys() if here[site] != planned[site]
        ),
    }
    told = [
        f"{', '.join(sites[:_NAMED])}{', ...' if len(sites) > _NAMED else ''} {kind}"
        for kind, sites in kinds.items()
        if sites
    ]
    return f"{len(planned)} sites are planned, {len(here)} are here ({'; '.join(told)})"
