"""Hospitals that die in the middle of an attempt, as processes: what is paid and what opens."""

from __future__ import annotations

import numpy as np
import pytest

from protocol.errors import Code, WardroundError
from protocol.secagg.aggregate import GUARDS, ShareSum
from protocol.wire.messages import Share
from tests.attack.hostile import Hostile
from tests.attack.sites import SITES

VICTIM = "west"
REST = tuple(site for site in SITES if site != VICTIM)


def test_killed_before_ready_the_sum_over_the_rest_is_exact(hostile: Hostile) -> None:
    ring = hostile.ring
    ring.kill(VICTIM)
    ring.until_gone(VICTIM)
    attempt = hostile.next_attempt()
    readys = hostile.prepare(attempt)
    assert sorted(readys) == sorted(REST)
    opened = hostile.open(hostile.collect(readys.values(), attempt, REST))
    np.testing.assert_array_equal(opened, hostile.truth(attempt, REST))
    ring.start(VICTIM)
    ring.until_online()
    assert attempt not in ring.debited(VICTIM, hostile.study), "it was never asked"


def test_killed_after_ready_the_attempt_is_charged_and_the_next_is_fresh(hostile: Hostile) -> None:
    ring = hostile.ring
    lost = hostile.next_attempt()
    first = hostile.prepare(lost)
    ring.kill(VICTIM)
    ring.until_gone(VICTIM)
    replies = hostile.collect(first.values(), lost)
    assert sorted(replies) == sorted(REST)
    with pytest.raises(WardroundError, match="guards"):
        hostile.open(replies)
    ring.start(VICTIM)
    ring.until_online()
    for site in SITES:
        assert lost in ring.debited(site, hostile.study)
    late = hostile.collect(first.values(), lost, [VICTIM])
    assert late[VICTIM].code == Code.REFUSED_REPLAY, "its key died with it"
    after = hostile.next_attempt()
    second = hostile.prepare(after)
    for site in SITES:
        assert second[site].public_key != first[site].public_key
        assert second[site].context != first[site].context
    opened = hostile.open(hostile.collect(second.values(), after))
    np.testing.assert_array_equal(opened, hostile.truth(after))


def test_a_late_answer_opens_only_the_sum_of_its_own_attempt(hostile: Hostile) -> None:
    old = hostile.next_attempt()
    lost = hostile.prepare(old)
    early = hostile.collect(lost.values(), old, REST)
    new = hostile.next_attempt()
    readys = hostile.prepare(new, REST)
    replies = hostile.collect(readys.values(), new, REST)
    opened = hostile.open(replies)
    np.testing.assert_array_equal(opened, hostile.truth(new, REST))
    late = hostile.collect(lost.values(), old, [VICTIM])
    assert isinstance(late[VICTIM].message, Share)
    np.testing.assert_array_equal(hostile.open(early | late), hostile.truth(old))
    # Beside any of the new attempt's shares it opens nothing.
    for kept in REST:
        mixed = early | late | {kept: replies[kept]}
        with pytest.raises(WardroundError, match="guards"):
            hostile.open(mixed)
    with pytest.raises(WardroundError, match="guards"):
        hostile.open(replies | late)


def test_a_share_of_garbage_spoils_the_attempt_and_no_other(hostile: Hostile) -> None:
    """Guards find it and name nobody; a wrong length names the site."""
    attempt = hostile.next_attempt()
    readys = hostile.prepare(attempt)
    replies = hostile.collect(readys.values(), attempt)
    shares = {site: hostile.words(reply).copy() for site, reply in replies.items()}
    shares[VICTIM][:] = np.random.default_rng(0).integers(0, 2**32, len(shares[VICTIM]))
    bits = hostile.study.aggregation.word_bits
    opening = ShareSum(SITES, len(shares[VICTIM]) - GUARDS, bits)
    for site, words in shares.items():
        opening.fold(site, [words])
    with pytest.raises(WardroundError, match="guards") as spoiled:
        opening.open()
    assert not any(site in spoiled.value.message for site in SITES)
    short = ShareSum(SITES, len(shares[VICTIM]) - GUARDS, bits)
    with pytest.raises(WardroundError, match=VICTIM):
        short.fold(VICTIM, [shares[VICTIM][:-1]])
    after = hostile.next_attempt()
    opened = hostile.open(hostile.collect(hostile.prepare(after).values(), after))
    np.testing.assert_array_equal(opened, hostile.truth(after))
