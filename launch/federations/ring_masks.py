"""Masks between neighbours, for sites that one process plays.

Whoever runs that process holds every site's data: masks protect nobody there. What they still do is
the work of a deployment's sum (one-time keys, signed Readys, masked words, guards), and a ring does
it with n key exchanges a round where the complete graph takes n(n-1)/2 by each side. In a ring two
colluding neighbours see the site between them; therefore this stands in the room that no hospital's
code may import.
"""

from __future__ import annotations

from collections.abc import Sequence

from protocol.secagg.context import SignedKey
from protocol.secagg.party import Party


class RingParty(Party):
    """A `Party` that masks for the site before it and the site after it alone."""

    def _partners(self, participants: Sequence[SignedKey]) -> list[SignedKey]:
        place = [ready.site for ready in participants].index(self.ready.site)
        return [participants[place - 1], participants[(place + 1) % len(participants)]]
