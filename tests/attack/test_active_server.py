"""An active server against real sites over TLS: refused with a code, or left with a full sum.

A refusal leaves the attempt as it was: most of these tests end with the honest sum, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from protocol.errors import Code, WardroundError
from protocol.identity import Identity
from protocol.secagg.context import SignedKey as SignedReady
from protocol.wire import messages
from protocol.wire.messages import Ready, Standing
from tests.attack.hostile import Hostile, Reply
from tests.attack.sites import SITES
from tests.narrowing import instance

EAST, NORTH, SOUTH, WEST = SITES
Readys = dict[str, Ready]


@pytest.fixture
def attempt(hostile: Hostile) -> int:
    return hostile.next_attempt()


@pytest.fixture
def readys(hostile: Hostile, attempt: int) -> Iterator[Readys]:
    """A fresh attempt, in hand at every site; in the end it opens, whatever was tried."""
    yield (found := hostile.prepare(attempt))
    opened = hostile.open(hostile.collect(found.values(), attempt))
    np.testing.assert_array_equal(opened, hostile.truth(attempt))


def codes(replies: dict[str, Reply]) -> dict[str, Code | None]:
    return {site: reply.code for site, reply in replies.items()}


def everywhere(code: Code) -> dict[str, Code | None]:
    return dict.fromkeys(SITES, code)


def forged(ready: Ready, signer: Identity, public_key: bytes, site: str | None = None) -> Ready:
    """The Ready with another key, signed by whoever is at hand."""
    named = site or ready.site
    signed = SignedReady.signed(named, ready.context, public_key, signer)
    return ready.model_copy(
        update={
            "site": named,
            "public_key": public_key.hex(),
            "signature": signed.signature,
        }
    )


def one_time_key() -> bytes:
    return X25519PrivateKey.generate().public_key().public_bytes_raw()


# --- the list of participants ---
def test_fewer_than_m_sites_get_nothing(hostile: Hostile, attempt: int, readys: Readys) -> None:
    for size in range(3):
        for group in combinations(SITES, size):
            frame = hostile.collecting([readys[site] for site in group], attempt)
            replies = hostile.ask(dict.fromkeys(group or SITES, frame))
            assert set(codes(replies).values()) == {Code.TOO_FEW_SITES}


def test_a_site_left_out_of_its_own_list_is_silent(
    hostile: Hostile, attempt: int, readys: Readys
) -> None:
    others = [readys[site] for site in SITES if site != WEST]
    assert codes(hostile.collect(others, attempt, [WEST])) == {WEST: Code.AGGREGATION}


def _twice(hostile: Hostile, readys: Readys) -> list[Ready]:
    return [*readys.values(), readys[EAST]]


def _stranger(hostile: Hostile, readys: Readys) -> list[Ready]:
    return [*readys.values(), forged(readys[EAST], Identity.generate(), one_time_key(), "stranger")]


def _same_key(hostile: Hostile, readys: Readys) -> list[Ready]:
    """West colludes and shows north's one-time key as its own, properly signed."""
    stolen = bytes.fromhex(readys[NORTH].public_key)
    again = forged(readys[WEST], hostile.ring.identity(WEST), stolen)
    return [readys[EAST], readys[NORTH], readys[SOUTH], again]


def _swapped(hostile: Hostile, readys: Readys) -> list[Ready]:
    one, two = readys[EAST], readys[SOUTH]
    return [
        readys[NORTH],
        readys[WEST],
        one.model_copy(update={"public_key": two.public_key}),
        two.model_copy(update={"public_key": one.public_key}),
    ]


def _server_in_the_middle(hostile: Hostile, readys: Readys) -> list[Ready]:
    """Everybody's key replaced by one whose secret the server has."""
    return [forged(ready, Identity.generate(), one_time_key()) for ready in readys.values()]


def _signed_by_another(hostile: Hostile, readys: Readys) -> list[Ready]:
    """West, colluding, signs in the name of the three others."""
    signer = hostile.ring.identity(WEST)
    honest = [forged(readys[s], signer, one_time_key()) for s in (EAST, NORTH, SOUTH)]
    return [*honest, readys[WEST]]


def _not_canonical(hostile: Hostile, readys: Readys) -> list[Ready]:
    """u + p: the same point in other bytes, which would make one key look like two."""
    other = forged(readys[WEST], hostile.ring.identity(WEST), (2**255 - 10).to_bytes(32, "little"))
    return [*(readys[site] for site in (EAST, NORTH, SOUTH)), other]


LISTS: dict[str, tuple[Callable[[Hostile, Readys], list[Ready]], set[Code]]] = {
    "a site twice": (_twice, {Code.AGGREGATION}),
    "a stranger": (_stranger, {Code.AGGREGATION}),
    "one key for two sites": (_same_key, {Code.AGGREGATION}),
    "keys swapped": (_swapped, {Code.IDENTITY}),
    "the server's own keys": (_server_in_the_middle, {Code.IDENTITY}),
    "a peer's name under another signature": (_signed_by_another, {Code.IDENTITY}),
    "a key in other bytes": (_not_canonical, {Code.AGGREGATION}),
}


@pytest.mark.parametrize("name", LISTS)
def test_a_forged_list_is_refused(
    hostile: Hostile, attempt: int, readys: Readys, name: str
) -> None:
    forge, expected = LISTS[name]
    replies = hostile.collect(forge(hostile, readys), attempt)
    assert codes(replies).keys() == set(SITES)
    assert set(codes(replies).values()) <= expected
    assert not any(reply.body for reply in replies.values())


def test_another_key_of_ones_own_is_refused(hostile: Hostile, attempt: int, readys: Readys) -> None:
    """Even under north's stolen identity key: it made one key for this attempt, and knows which."""
    second = forged(readys[NORTH], hostile.ring.identity(NORTH), one_time_key())
    listed = [second, *(readys[s] for s in SITES if s != NORTH)]
    assert codes(hostile.collect(listed, attempt, [NORTH])) == {NORTH: Code.AGGREGATION}


# --- one answer an attempt ---
def test_a_second_list_is_refused_and_the_first_gets_the_same_bytes(
    hostile: Hostile, attempt: int, readys: Readys
) -> None:
    first = hostile.collect(readys.values(), attempt)
    for left_out in SITES:
        rest = [site for site in SITES if site != left_out]
        again = hostile.collect([readys[site] for site in rest], attempt, rest)
        assert codes(again) == dict.fromkeys(rest, Code.REFUSED_REPLAY)
    second = hostile.collect(reversed(readys.values()), attempt)
    for site in SITES:
        assert second[site].body == first[site].body
        assert second[site].header == first[site].header


def test_split_views_open_nothing(hostile: Hostile) -> None:
    """Two sites see one list and two another: no set of shares adds up to anything."""
    attempt = hostile.next_attempt()
    readys = hostile.prepare(attempt)
    views = {
        EAST: (EAST, NORTH, SOUTH),
        NORTH: (EAST, NORTH, SOUTH),
        SOUTH: SITES,
        WEST: (NORTH, SOUTH, WEST),
    }
    frames = {
        site: hostile.collecting([readys[s] for s in view], attempt) for site, view in views.items()
    }
    replies = hostile.ask(frames)
    assert set(codes(replies).values()) == {None}
    for size in range(1, 5):
        for group in combinations(SITES, size):
            with pytest.raises(WardroundError, match="guards"):
                hostile.open({site: replies[site] for site in group})


# --- replays and orders ---
def test_replayed_readys_and_late_lists_are_refused(hostile: Hostile) -> None:
    old = hostile.next_attempt()
    stale = hostile.prepare(old)
    new = hostile.next_attempt()
    fresh = hostile.prepare(new)
    assert codes(hostile.collect(stale.values(), old)) == everywhere(Code.REFUSED_REPLAY)
    assert codes(hostile.collect(stale.values(), new)) == everywhere(Code.AGGREGATION)
    mixed = [stale[EAST], *(fresh[site] for site in SITES if site != EAST)]
    assert codes(hostile.collect(mixed, new)) == everywhere(Code.AGGREGATION)
    opened = hostile.open(hostile.collect(fresh.values(), new))
    np.testing.assert_array_equal(opened, hostile.truth(new))


def test_attempts_only_go_up(hostile: Hostile, attempt: int, readys: Readys) -> None:
    paid = {site: hostile.ring.debited(site, hostile.study) for site in SITES}
    for wrong, code in (
        (hostile.preparing(attempt), Code.REFUSED_REPLAY),
        (hostile.preparing(max(1, attempt - 1)), Code.REFUSED_REPLAY),
        (hostile.preparing(1, round_=4), Code.REFUSED_REPLAY),
        (hostile.preparing(attempt + 1, round_=77), Code.REFUSED_STUDY),
        (hostile.preparing(attempt + 1, round_=5), Code.REFUSED_STUDY),
        (hostile.preparing(attempt + 1, evaluate=True), Code.REFUSED_STUDY),
        (hostile.preparing(attempt + 1, train=False), Code.REFUSED_STUDY),
        (hostile.preparing(200_000), Code.REFUSED_STUDY),
    ):
        assert codes(hostile.ask(dict.fromkeys(SITES, wrong))) == everywhere(code)
    assert {site: hostile.ring.debited(site, hostile.study) for site in SITES} == paid


# --- another context ---
def test_another_model_splits_the_sites(hostile: Hostile) -> None:
    """One model for two of them, another for the rest: they do not agree, so nobody answers."""
    attempt = hostile.next_attempt()
    other = np.ones(hostile.study.model.parameters, np.float32)
    readys = hostile.prepare(attempt, (EAST, NORTH))
    readys |= hostile.prepare(attempt, (SOUTH, WEST), weights=other)
    assert codes(hostile.collect(readys.values(), attempt)) == everywhere(Code.AGGREGATION)


def test_a_model_under_anothers_digest_is_refused_before_it_costs(hostile: Hostile) -> None:
    attempt = hostile.next_attempt()
    wrong = hostile.preparing(attempt, model="0" * 64)
    assert codes(hostile.ask(dict.fromkeys(SITES, wrong))) == everywhere(Code.MESSAGE)
    assert attempt not in hostile.ring.debited(EAST, hostile.study)


def test_another_kind_splits_the_sites(hostile: Hostile) -> None:
    """Training alone from two sites and with scores from two others: not one context."""
    study, _ = hostile.ring.study("privacy=none", "rounds=2", "evaluation.every=1", "seed=4")
    twin = Hostile(hostile.ring, study)
    twin.propose()
    readys = twin.prepare(1, (EAST, NORTH), round_=2)
    readys |= twin.prepare(1, (SOUTH, WEST), round_=2, evaluate=True)
    replies = twin.collect(readys.values(), 1, round_=2)
    assert codes(replies) == everywhere(Code.AGGREGATION)


def test_an_unknown_study_gets_nothing(hostile: Hostile, attempt: int, readys: Readys) -> None:
    other = hostile.preparing(attempt + 1, study="f" * 64)
    assert codes(hostile.ask(dict.fromkeys(SITES, other))) == everywhere(Code.REFUSED_STUDY)


def test_two_studies_at_once_do_not_mix(hostile: Hostile) -> None:
    study, _ = hostile.ring.study("privacy=none", "rounds=2", "seed=5")
    twin = Hostile(hostile.ring, study)
    assert {instance(Standing, r.message).state for r in twin.propose().values()} == {"accepted"}
    attempt = hostile.next_attempt()
    one, two = hostile.prepare(attempt), twin.prepare(1)
    # The other study's Readys, and the other's with the name of this one written on them.
    assert codes(hostile.collect(two.values(), attempt)) == everywhere(Code.AGGREGATION)
    renamed = [
        ready.model_copy(update={"study": hostile.study.digest, "attempt": attempt})
        for ready in two.values()
    ]
    assert codes(hostile.collect(renamed, attempt)) == everywhere(Code.AGGREGATION)
    for attacker, readys, number in ((twin, two, 1), (hostile, one, attempt)):
        opened = attacker.open(attacker.collect(readys.values(), number))
        np.testing.assert_array_equal(opened, attacker.truth(number))


# --- what takes all of the roster ---
def test_an_exact_sum_without_one_site_is_refused(hostile: Hostile) -> None:
    """Two exact sums over four and over three sites would give the fourth away."""
    study, _ = hostile.ring.study("privacy=none", "rounds=2", "seed=6")
    exact = Hostile(hostile.ring, study)
    exact.propose()
    readys = exact.prepare(1, round_=3, train=False, evaluate=True)
    for left_out in SITES:
        rest = [site for site in SITES if site != left_out]
        replies = exact.collect([readys[site] for site in rest], 1, rest, round_=3)
        assert codes(replies) == dict.fromkeys(rest, Code.TOO_FEW_SITES)
    opened = exact.open(exact.collect(readys.values(), 1, round_=3))
    np.testing.assert_array_equal(opened, exact.truth(1))


# --- no protocol at all ---
@pytest.mark.parametrize("header", [b"", b"{}", b"\xff" * 100, b'{"type":"share"}', b"[" * 5000])
def test_a_meaningless_frame_is_answered_with_a_code(hostile: Hostile, header: bytes) -> None:
    replies = hostile.ask(dict.fromkeys(SITES, messages.Frame(header)))
    assert codes(replies) == everywhere(Code.MESSAGE)
