"""Sites that can be set up in one line, for the tests of secure aggregation."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from protocol.identity import Identity
from protocol.secagg.context import Context, SignedKey
from protocol.secagg.party import Party

STUDY, MODEL = "5" * 64, "d" * 64


@cache
def identity(site: str) -> Identity:
    return Identity.generate()


def names(count: int) -> tuple[str, ...]:
    return tuple(f"site{number:02d}" for number in range(count))


def context(sites: Sequence[str], **changes: Any) -> Context:
    fields: dict[str, Any] = {
        "study": STUDY,
        "kind": "update",
        "round": 1,
        "attempt": 1,
        "model": MODEL,
        "roster": tuple((site, identity(site).public_key.hex()) for site in sites),
    }
    return Context(**(fields | changes))


def begin(sites: Sequence[str], **changes: Any) -> dict[str, Party]:
    agreed = context(sites, **changes)
    return {site: Party.begin(agreed, site, identity(site)) for site in sites}


def readys(parties: Mapping[str, Party], sites: Sequence[str] | None = None) -> list[SignedKey]:
    return [parties[site].ready for site in (parties if sites is None else sites)]
