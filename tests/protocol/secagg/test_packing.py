"""Words of any number of bits come back from the wire as they were, in pieces of any length."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import WardroundError
from protocol.identity import Identity
from protocol.secagg.aggregate import GUARDS, ShareSum
from protocol.secagg.context import Context
from protocol.secagg.packing import Packing, pack, share_size, unpack
from protocol.secagg.party import Party

FOUR = ["a", "b", "c", "d"]


def some_words(count: int, bits: int = 32) -> npt.NDArray[np.uint32]:
    words = np.random.default_rng(count).integers(0, 2**bits, count, dtype=np.uint64)
    return words.astype(np.uint32)


@given(st.integers(1, 32), st.integers(0, 200))
def test_words_come_back_without_their_upper_bits(bits: int, count: int) -> None:
    words = some_words(count)
    packed = pack(words, bits)
    assert len(packed) == -(-count * bits // 8)
    assert unpack(packed, bits, count).tolist() == [int(word) % 2**bits for word in words]


def test_the_bits_on_the_wire_are_those_that_the_module_describes() -> None:
    """By Python's integers, word i at bits i w: what a second implementation would write."""
    words, bits = some_words(2000, 11), 11
    whole = sum(int(word) << (bits * place) for place, word in enumerate(words))
    assert pack(words, bits).tobytes() == whole.to_bytes(-(-2000 * bits // 8), "little")


@given(
    st.integers(2, 31), st.integers(0, 100), st.integers(0, 5), st.integers(1, 300), st.booleans()
)
def test_shares_of_two_widths_are_folded_in_pieces_of_any_length(
    bits: int, narrow: int, wide: int, piece: int, long: bool
) -> None:
    """Masked by four sites: the sum of each narrow word mod 2^w, with its sign, and of each wide
    one mod 2^k."""
    packing, word_bits = Packing(narrow, bits), 64 if long else 32
    roster = {site: Identity.generate() for site in FOUR}
    keys = tuple((site, key.public_key.hex()) for site, key in roster.items())
    context = Context("0" * 64, "update", 1, 1, "0" * 64, keys)
    parties = {site: Party.begin(context, site, key) for site, key in roster.items()}
    readys = [party.ready for party in parties.values()]
    length = narrow + wide
    random = np.random.default_rng(piece)
    opening = ShareSum(FOUR, length, 64 if long else 32, packing)
    total = np.zeros(length, dtype=np.int64)
    for site, party in parties.items():
        values = random.integers(-(2**29), 2**29, length)
        total += values
        words: Any = values.astype(np.uint64 if long else np.uint32)
        body = packing.packed(party.share(words, readys, 3)).tobytes()
        assert len(body) == opening.size == share_size(length + GUARDS, word_bits, packing)
        opening.fold(site, (body[at : at + piece] for at in range(0, len(body), piece)))
    half = 2 ** (bits - 1)
    total[:narrow] = (total[:narrow] + half) % (2 * half) - half
    assert opening.open().tolist() == total.tolist()
    assert opening.open().tolist() == total.tolist(), "the sum changes when it is read again"


@pytest.mark.parametrize("change", [-1, 1, -5])
def test_a_packed_share_of_another_length_is_refused(change: int) -> None:
    packing = Packing(33, 10)
    opening = ShareSum(["a"], 35, 32, packing)
    body = bytes(opening.size + change)
    with pytest.raises(WardroundError, match=r"length|long"):
        opening.fold("a", [body])
