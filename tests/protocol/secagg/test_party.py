"""Secure aggregation: the opened sum is the integer sum, and every refusal of the design."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol.errors import Code, WardroundError
from protocol.identity import Identity
from protocol.secagg.aggregate import GUARDS, ShareSum
from protocol.secagg.context import Context, SignedKey, check_ready, check_readys, encode
from protocol.secagg.fixed_point import WordBits
from protocol.secagg.party import NoiseShare, OpenParty, Party
from tests.protocol.federation import MODEL, STUDY, begin, context, identity, names, readys

WORD_BITS: list[WordBits] = [32, 64]
ZEROS = np.zeros(5, dtype=np.uint32)
FOUR = names(4)


def refused(code: Code, party: Party, given_: list[SignedKey], least_sites: int = 3) -> None:
    """Refused, and the attempt is still open: the right Readys get an answer afterwards."""
    with pytest.raises(WardroundError) as refusal:
        party.share(ZEROS, given_, least_sites)
    assert refusal.value.code is code, refusal.value


@pytest.mark.slow
@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_the_opened_sum_is_the_integer_sum_bit_for_bit(data: st.DataObject) -> None:
    # Every site checks every Ready: mostly small federations, some of each size up to 50.
    few, many = st.integers(3, 7), st.integers(3, 50)
    sites = names(data.draw(st.one_of(few, few, few, few, many), "sites"))
    least = data.draw(st.integers(3, min(len(sites), 12)), "m")
    some = data.draw(st.integers(least, len(sites)), "|U|")
    seed = data.draw(st.integers(0, 2**32), "who takes part, and with what")
    bits = data.draw(st.sampled_from(WORD_BITS), "k")
    length = data.draw(st.sampled_from([0, 1, 2, 7, 33]), "length")
    masked = data.draw(st.sampled_from([True, True, True, False]), "masked")
    draw = np.random.default_rng(seed)
    chosen = [sites[place] for place in draw.permutation(len(sites))[:some]]
    agreed = context(sites)
    kind = Party if masked else OpenParty
    parties = {site: kind.begin(agreed, site, identity(site)) for site in chosen}
    # Any words at all: the sum is exact mod 2^k, wrapped around where it has to.
    own = {site: draw.integers(0, 2**bits, length, dtype=np.uint64) for site in chosen}
    noise = {site: draw.integers(-(2**40), 2**40, length) for site in chosen}
    word: Any = np.uint32 if bits == 32 else np.uint64
    opening = ShareSum(chosen, length, bits)

    def noise_of(site: str) -> NoiseShare:
        return lambda _: noise[site]

    for site in draw.permutation(chosen):
        share = parties[site].share(own[site].astype(word), readys(parties), least, noise_of(site))
        opening.fold(site, [share.tobytes()])
    opened = opening.open()
    for place in range(length):
        true = sum(int(own[site][place]) + int(noise[site][place]) for site in chosen)
        assert (int(opened[place]) - true) % 2**bits == 0
    assert opened.dtype == np.dtype(f"int{bits}")


@settings(max_examples=30, deadline=None)
@given(values=st.lists(st.integers(-(2**28), 2**28 - 1), min_size=4, max_size=4))
def test_a_sum_that_fits_comes_out_signed(values: list[int]) -> None:
    parties = begin(FOUR)
    opening = ShareSum(FOUR, 1, 32)
    for value, (site, party) in zip(values, parties.items(), strict=True):
        words = np.array([value], dtype=np.int64).astype(np.uint32)
        opening.fold(site, [party.share(words, readys(parties), 3)])
    assert opening.open().tolist() == [sum(values)]


def test_the_contribution_is_left_as_it_is_and_the_share_hides_it() -> None:
    parties = begin(FOUR)
    contribution = np.arange(1000, dtype=np.uint32)
    share = parties[FOUR[0]].share(contribution, readys(parties), 3)
    assert (contribution == np.arange(1000)).all()
    assert np.count_nonzero(share[:-GUARDS] == contribution) <= 1
    assert share[-GUARDS:].tolist() != [1, 1]


def test_a_retransmission_gets_identical_bytes_and_no_new_noise() -> None:
    parties = begin(FOUR)
    drawn: list[int] = []

    def noise(participants: int) -> np.ndarray:
        drawn.append(participants)
        return np.random.default_rng().integers(-1000, 1000, 5)

    party = parties[FOUR[1]]
    first = party.share(ZEROS, readys(parties), 3, noise).tobytes()
    again = party.share(ZEROS, list(reversed(readys(parties))), 3, noise)
    assert again.tobytes() == first
    assert drawn == [4]
    with pytest.raises(ValueError, match="read-only"):
        again[0] = 0


def test_a_second_u_for_one_attempt_is_refused() -> None:
    parties = begin(FOUR)
    party = parties[FOUR[0]]
    party.share(ZEROS, readys(parties, FOUR[:3]), 3)
    refused(Code.REFUSED_REPLAY, party, readys(parties))
    refused(Code.REFUSED_REPLAY, party, readys(parties, [FOUR[0], FOUR[2], FOUR[3]]))
    party.share(ZEROS, readys(parties, FOUR[:3]), 3)


def test_a_peers_second_key_for_one_attempt_makes_a_second_u() -> None:
    parties, again = begin(FOUR), begin(FOUR)
    party = parties[FOUR[0]]
    party.share(ZEROS, readys(parties), 3)
    refused(Code.REFUSED_REPLAY, party, [*readys(parties, FOUR[:3]), again[FOUR[3]].ready])


def test_after_discard_a_late_collect_is_refused() -> None:
    parties = begin(FOUR)
    parties[FOUR[0]].discard()
    refused(Code.REFUSED_REPLAY, parties[FOUR[0]], readys(parties))
    answered = parties[FOUR[1]]
    answered.share(ZEROS, readys(parties), 3)
    answered.discard()
    refused(Code.REFUSED_REPLAY, answered, readys(parties))


def test_an_attempt_that_fails_while_it_answers_is_over() -> None:
    """Its noise may have been drawn; a second try could be told from the first."""
    parties = begin(FOUR)

    def broken(_: int) -> np.ndarray:
        raise RuntimeError("no entropy")

    with pytest.raises(RuntimeError):
        parties[FOUR[0]].share(ZEROS, readys(parties), 3, broken)
    refused(Code.REFUSED_REPLAY, parties[FOUR[0]], readys(parties))


@pytest.mark.parametrize("size", [4, 6])
def test_noise_of_another_length_is_refused(size: int) -> None:
    parties = begin(FOUR)
    with pytest.raises(WardroundError):
        parties[FOUR[0]].share(ZEROS, readys(parties), 3, lambda _: np.zeros(size, dtype=np.int64))


def test_fewer_sites_than_m_and_an_m_below_three_are_refused() -> None:
    parties = begin(FOUR)
    party = parties[FOUR[0]]
    refused(Code.TOO_FEW_SITES, party, readys(parties, FOUR[:3]), least_sites=4)
    refused(Code.TOO_FEW_SITES, party, readys(parties, FOUR[:2]))
    refused(Code.TOO_FEW_SITES, party, [])
    refused(Code.CONFIGURATION, party, readys(parties), least_sites=2)
    party.share(ZEROS, readys(parties), 4)


def test_a_site_left_out_of_its_own_list_or_altered_in_it_refuses() -> None:
    parties, again = begin(FOUR), begin(FOUR)
    party = parties[FOUR[0]]
    refused(Code.AGGREGATION, party, readys(parties, FOUR[1:]))
    refused(Code.AGGREGATION, party, [again[FOUR[0]].ready, *readys(parties, FOUR[1:])])
    party.share(ZEROS, readys(parties), 3)


def test_unknown_and_duplicate_sites_are_refused() -> None:
    parties = begin(FOUR)
    party, everyone = parties[FOUR[0]], readys(parties)
    stranger = begin((*FOUR, "stranger"))["stranger"].ready
    mallory = replace(stranger, context=party.context.digest)
    refused(Code.AGGREGATION, party, [*everyone, mallory])
    refused(Code.AGGREGATION, party, [*everyone, everyone[1]])
    refused(Code.AGGREGATION, party, [everyone[0], *everyone])
    # A colluder with two keys counts once, towards |U| and towards m.
    twice = begin(FOUR)[FOUR[3]].ready
    refused(Code.AGGREGATION, party, [*everyone, twice])
    refused(Code.AGGREGATION, party, [everyone[0], everyone[3], twice])


def test_swapped_forged_and_resigned_keys_are_refused() -> None:
    parties = begin(FOUR)
    a, b, c, d = FOUR
    party, ready = parties[a], {site: parties[site].ready for site in FOUR}
    ctx = party.context.digest
    coordinator = begin(FOUR)[b].ready.public_key

    swapped = replace(ready[b], public_key=ready[c].public_key)
    replaced = replace(ready[b], public_key=coordinator)
    forged = SignedKey.signed(b, ctx, bytes.fromhex(coordinator), Identity.generate())
    renamed = replace(ready[b], site=c)
    for bad in (swapped, replaced, forged):
        refused(Code.IDENTITY, party, [ready[a], bad, ready[c], ready[d]])
    refused(Code.IDENTITY, party, [ready[a], renamed, ready[b], ready[d]])
    # A colluding peer signs an honest site's key as its own, in either encoding of the point.
    resigned = SignedKey.signed(d, ctx, bytes.fromhex(ready[b].public_key), identity(d))
    refused(Code.AGGREGATION, party, [ready[a], ready[b], ready[c], resigned])
    value = int.from_bytes(bytes.fromhex(ready[b].public_key), "little") | 1 << 255
    twin = SignedKey.signed(d, ctx, value.to_bytes(32, "little"), identity(d))
    refused(Code.AGGREGATION, party, [ready[a], ready[b], ready[c], twin])
    own = SignedKey.signed(d, ctx, bytes.fromhex(ready[a].public_key), identity(d))
    refused(Code.AGGREGATION, party, [ready[a], ready[b], ready[c], own])
    for text in ("zz" * 32, "", ready[b].public_key.upper() + "0", ready[b].public_key[:-2]):
        bad = replace(ready[b], public_key=text)
        refused(Code.AGGREGATION, party, [ready[a], bad, ready[c], ready[d]])
    for text in ("zz" * 64, "", "00" * 64, ready[b].signature + "00"):
        bad = replace(ready[b], signature=text)
        refused(Code.IDENTITY, party, [ready[a], bad, ready[c], ready[d]])
    party.share(ZEROS, list(ready.values()), 3)


def test_a_key_of_small_order_signed_by_a_peer_is_refused() -> None:
    parties = begin(FOUR)
    low = SignedKey.signed(FOUR[3], parties[FOUR[0]].context.digest, bytes(32), identity(FOUR[3]))
    with pytest.raises(WardroundError) as refusal:
        parties[FOUR[0]].share(ZEROS, [*readys(parties, FOUR[:3]), low], 3)
    assert refusal.value.code is Code.AGGREGATION


OTHER: dict[str, dict[str, Any]] = {
    "study": {"study": "6" * 64},
    "kind": {"kind": "histogram"},
    "round": {"round": 2},
    "attempt": {"attempt": 2},
    "model": {"model": "e" * 64},
    "exact": {"exact": True},
    "a site more": {"roster": tuple((s, identity(s).public_key.hex()) for s in (*FOUR, "another"))},
    "another key of one site": {
        "roster": tuple(
            (s, (identity(s) if s != FOUR[3] else identity("new")).public_key.hex()) for s in FOUR
        )
    },
}


@pytest.mark.parametrize("change", OTHER.values(), ids=OTHER.keys())
def test_readys_of_another_context_are_refused(change: dict[str, object]) -> None:
    """Replays of earlier rounds, two studies at once, reordered rounds, another roster or model."""
    parties = begin(FOUR)
    other = context(FOUR, **change)
    peer = Party.begin(other, FOUR[1], identity(FOUR[1]))
    refused(
        Code.AGGREGATION,
        parties[FOUR[0]],
        [parties[FOUR[0]].ready, peer.ready, *readys(parties, FOUR[2:])],
    )
    # Nor does it help to write the right context over a Ready signed for another.
    relabelled = replace(peer.ready, context=parties[FOUR[0]].context.digest)
    refused(
        Code.IDENTITY,
        parties[FOUR[0]],
        [parties[FOUR[0]].ready, relabelled, *readys(parties, FOUR[2:])],
    )


def test_context_digests_differ_field_by_field_and_ignore_the_rosters_order() -> None:
    digests = {context(FOUR, **change).digest for change in OTHER.values()}
    assert len(digests | {context(FOUR).digest}) == len(OTHER) + 1
    assert context(tuple(reversed(FOUR))).digest == context(FOUR).digest
    assert context(FOUR, round=1, attempt=12).digest != context(FOUR, round=11, attempt=2).digest


@given(
    one=st.lists(st.one_of(st.text(max_size=3), st.binary(max_size=3)), max_size=4),
    other=st.lists(st.one_of(st.text(max_size=3), st.binary(max_size=3)), max_size=4),
)
def test_what_is_hashed_can_be_read_in_one_way_only(
    one: list[str | bytes], other: list[str | bytes]
) -> None:
    def raw(fields: list[str | bytes]) -> list[bytes]:
        return [field.encode() if isinstance(field, str) else field for field in fields]

    assert (encode(*one) == encode(*other)) == (raw(one) == raw(other))
    assert encode("ab", "c") != encode("a", "bc")
    assert encode("a", "") != encode("a")


@pytest.mark.parametrize(
    "change",
    [
        {"study": "abc"},
        {"study": "G" * 64},
        {"model": "D" * 64},
        {"round": -1},
        {"attempt": 2**63},
        {"roster": (("a", "0" * 64), ("a", "1" * 64))},
        {"roster": (("a", "0" * 64), ("b", "0" * 64))},
        {"roster": (("a", "key"),)},
    ],
)
def test_a_malformed_context_cannot_be_made(change: dict[str, object]) -> None:
    with pytest.raises(WardroundError) as refusal:
        context(FOUR, **change)
    assert refusal.value.code is Code.CONFIGURATION


def test_a_site_that_is_not_on_its_own_roster_does_not_begin() -> None:
    for site, key in ((FOUR[0], identity(FOUR[1])), ("stranger", identity("stranger"))):
        with pytest.raises(WardroundError) as refusal:
            Party.begin(context(FOUR), site, key)
        assert refusal.value.code is Code.IDENTITY
    with pytest.raises(WardroundError):
        OpenParty.begin(context(FOUR), "stranger")


def test_an_exact_release_takes_the_whole_roster() -> None:
    parties = begin(FOUR, exact=True)
    refused(Code.TOO_FEW_SITES, parties[FOUR[0]], readys(parties, FOUR[:3]))
    with pytest.raises(WardroundError, match=FOUR[3]):
        check_readys(parties[FOUR[0]].context, readys(parties, FOUR[:3]), least_sites=3)
    opening = ShareSum(FOUR, 5, 32)
    for site in FOUR:
        opening.fold(site, [parties[site].share(ZEROS, readys(parties), 3)])
    assert opening.open().tolist() == [0] * 5


def test_the_coordinator_names_who_sent_garbage() -> None:
    parties = begin(FOUR)
    agreed, good = context(FOUR), parties[FOUR[2]].ready
    check_ready(agreed, good)
    for bad in (replace(good, signature="0" * 128), replace(good, public_key="x")):
        with pytest.raises(WardroundError, match=FOUR[2]):
            check_ready(agreed, bad)
    with pytest.raises(WardroundError) as refusal:
        check_ready(agreed, replace(good, site="<script>"))
    assert "<script>" not in str(refusal.value)
    ordered, _ = check_readys(agreed, list(reversed(readys(parties))), least_sites=3)
    assert [ready.site for ready in ordered] == list(FOUR)


def test_masked_and_open_readys_do_not_pass_for_each_other() -> None:
    agreed = context(FOUR)
    masked = Party.begin(agreed, FOUR[0], identity(FOUR[0])).ready
    plain = OpenParty.begin(agreed, FOUR[0]).ready
    with pytest.raises(WardroundError):
        check_ready(agreed, plain)
    with pytest.raises(WardroundError):
        check_ready(agreed, masked, masked=False)
    parties = begin(FOUR)
    opens = [OpenParty.begin(parties[FOUR[0]].context, site).ready for site in FOUR[1:]]
    refused(Code.IDENTITY, parties[FOUR[0]], [parties[FOUR[0]].ready, *opens])


def test_without_masks_the_same_integers_come_out_and_the_same_rules_hold() -> None:
    agreed = Context(STUDY, "update", 1, 1, MODEL, context(FOUR).roster)
    parties = {site: OpenParty.begin(agreed, site) for site in FOUR}
    party = parties[FOUR[0]]
    assert party.share(ZEROS, readys(parties), 1).tolist() == [0, 0, 0, 0, 0, 1, 1]
    refused(Code.REFUSED_REPLAY, party, readys(parties, FOUR[:3]), least_sites=1)
    refused(Code.TOO_FEW_SITES, parties[FOUR[1]], readys(parties, FOUR[:3]), least_sites=4)
