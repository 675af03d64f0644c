"""Sites of one process mask in a ring: the sum is the same, and no word is in clear."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from launch.federations.ring_masks import RingParty
from protocol.errors import WardroundError
from protocol.identity import Identity
from protocol.secagg.aggregate import GUARDS
from protocol.secagg.context import Context
from protocol.secagg.party import Party

CLEAR = np.arange(50, dtype=np.uint32)


def shares(count: int, *kinds: type[Party]) -> list[npt.NDArray[np.uint32]]:
    """Of so many sites, each of the next kind."""
    keys = {f"site-{place}": Identity.generate() for place in range(count)}
    roster = tuple((site, key.public_key.hex()) for site, key in keys.items())
    context = Context("a" * 64, "update", 1, 1, "b" * 64, roster)
    parties = [
        kinds[place % len(kinds)].begin(context, site, key)
        for place, (site, key) in enumerate(keys.items())
    ]
    readys = [party.ready for party in parties]
    return [party.share(CLEAR, readys, 3) for party in parties]


def added(shares: list[npt.NDArray[np.uint32]]) -> npt.NDArray[np.uint32]:
    total = np.zeros_like(shares[0])
    for share in shares:
        total += share
    return total


@pytest.mark.parametrize("count", [3, 4, 11])
def test_masks_cancel_in_the_sum_alone(count: int) -> None:
    masked = shares(count, RingParty)
    total = added(masked)
    assert (total[:-GUARDS] == count * CLEAR).all()
    assert (total[-GUARDS:] == count).all()
    for one in range(count):
        assert (masked[one][:-GUARDS] == CLEAR).mean() < 0.1
        partial = added(masked[:one] + masked[one + 1 :])
        assert (partial[:-GUARDS] == (count - 1) * CLEAR).mean() < 0.1


def test_a_ring_and_a_complete_graph_do_not_cancel() -> None:
    total = added(shares(5, RingParty, Party))
    assert (total[-GUARDS:] != 5).any()


def test_two_sites_are_refused_as_anywhere() -> None:
    with pytest.raises(WardroundError):
        shares(2, RingParty)
