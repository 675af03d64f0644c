"""The coordinator's half: what it adds up, what it refuses, whom it can name."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.errors import Code, WardroundError
from protocol.secagg.aggregate import ShareSum
from protocol.secagg.fixed_point import WordBits
from protocol.secagg.party import Party
from tests.protocol.federation import begin, names, readys

FOUR = names(4)


def shares(parties: dict[str, Party], length: int = 3) -> dict[str, np.ndarray]:
    ones = np.ones(length, dtype=np.uint32)
    return {site: party.share(ones, readys(parties), 3) for site, party in parties.items()}


@settings(max_examples=50, deadline=None)
@given(cuts=st.lists(st.integers(0, 48), max_size=12), bits=st.sampled_from([32, 64]))
def test_a_share_may_come_in_pieces_of_any_length(cuts: list[int], bits: WordBits) -> None:
    words = np.arange(1, 7, dtype=np.uint32 if bits == 32 else np.uint64)
    words[-2:] = 1
    data = words.tobytes()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    opening = ShareSum(["only"], 4, bits)
    opening.fold("only", [data[a:b] for a, b in pairwise(edges)])
    assert opening.open().tolist() == [1, 2, 3, 4]


def test_what_is_missing_is_named_and_nothing_opens_before_the_last() -> None:
    sent = shares(begin(FOUR))
    opening = ShareSum(FOUR, 3, 32)
    for site in FOUR[:3]:
        opening.fold(site, [sent[site]])
    assert opening.missing == {FOUR[3]}
    with pytest.raises(WardroundError, match=FOUR[3]):
        opening.open()
    opening.fold(FOUR[3], [sent[FOUR[3]]])
    assert opening.open().tolist() == [4, 4, 4]


def test_a_share_sent_twice_or_by_an_outsider_leaves_the_sum_untouched() -> None:
    sent = shares(begin(FOUR))
    opening = ShareSum(FOUR, 3, 32)
    for site in FOUR:
        opening.fold(site, [sent[site]])
    with pytest.raises(WardroundError) as refusal:
        opening.fold(FOUR[0], [sent[FOUR[0]]])
    assert refusal.value.code is Code.REFUSED_REPLAY
    with pytest.raises(WardroundError):
        opening.fold("outsider", [sent[FOUR[0]]])
    assert opening.open().tolist() == [4, 4, 4]


@pytest.mark.parametrize("change", [-5, -4, -1, 1, 4, 400])
def test_a_share_of_another_length_names_its_site_and_loses_the_attempt(change: int) -> None:
    sent = shares(begin(FOUR))
    opening = ShareSum(FOUR, 3, 32)
    data = sent[FOUR[2]].tobytes()
    wrong = data + bytes(change) if change > 0 else data[:change]
    for site in (FOUR[0], FOUR[1], FOUR[3]):
        opening.fold(site, [sent[site]])
    with pytest.raises(WardroundError, match=FOUR[2]):
        opening.fold(FOUR[2], [wrong])
    with pytest.raises(WardroundError, match=FOUR[2]) as refusal:
        opening.open()
    assert "next" in refusal.value.remedy


def test_an_interrupted_share_cannot_be_mended_by_others() -> None:
    sent = shares(begin(FOUR))
    opening = ShareSum(FOUR, 3, 32)

    def cut_off() -> Iterator[bytes]:
        yield sent[FOUR[0]].tobytes()[:8]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        opening.fold(FOUR[0], cut_off())
    for site in FOUR[1:]:
        opening.fold(site, [sent[site]])
    with pytest.raises(WardroundError, match=FOUR[0]):
        opening.open()


def test_guards_catch_a_mask_of_another_attempt() -> None:
    one, other = shares(begin(FOUR)), shares(begin(FOUR))
    opening = ShareSum(FOUR, 3, 32)
    for site in FOUR[:3]:
        opening.fold(site, [one[site]])
    opening.fold(FOUR[3], [other[FOUR[3]]])
    with pytest.raises(WardroundError, match="guards") as refusal:
        opening.open()
    assert refusal.value.code is Code.AGGREGATION


def test_guards_catch_a_share_of_noise_or_zeros() -> None:
    for garbage in (np.zeros(5, dtype=np.uint32), np.arange(5, dtype=np.uint32)):
        sent = shares(begin(FOUR)) | {FOUR[1]: garbage}
        opening = ShareSum(FOUR, 3, 32)
        for site in FOUR:
            opening.fold(site, [sent[site]])
        with pytest.raises(WardroundError, match="guards"):
            opening.open()


def test_a_site_cannot_be_opened_by_the_shares_it_was_masked_with_for_others() -> None:
    """The coordinator asks three sites for one U and the fourth for another: nothing opens."""
    parties = begin(FOUR)
    ones = np.ones(3, dtype=np.uint32)
    few = [parties[site].ready for site in FOUR[:3]]
    sent = {site: parties[site].share(ones, few, 3) for site in FOUR[:2]}
    sent |= {site: parties[site].share(ones, readys(parties), 3) for site in FOUR[2:]}
    for group in (FOUR[:2], FOUR[2:], FOUR[:3], FOUR):
        opening = ShareSum(group, 3, 32)
        for site in group:
            opening.fold(site, [sent[site]])
        with pytest.raises(WardroundError, match="guards"):
            opening.open()


def test_a_participant_named_twice_is_refused() -> None:
    with pytest.raises(WardroundError):
        ShareSum(["a", "a", "b"], 3, 32)
