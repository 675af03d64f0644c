"""Masks: both ends of a pair derive the same one, nobody else does, and it cancels."""

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Code, WardroundError
from protocol.secagg.masks import add_masks, canonical_point, pair_key

A, B = X25519PrivateKey.generate(), X25519PrivateKey.generate()
PUBLIC_A, PUBLIC_B = A.public_key().public_bytes_raw(), B.public_key().public_bytes_raw()


def test_both_ends_derive_the_same_key() -> None:
    assert pair_key(A, PUBLIC_B, b"ctx", "a", "b") == pair_key(B, PUBLIC_A, b"ctx", "b", "a")


def test_context_and_names_separate_keys() -> None:
    """Names too: "a" with "bc" must not meet "ab" with "c"."""
    variants = [("ctx", "a", "b"), ("cty", "a", "b"), ("ctx", "a", "c"), ("ctx", "b", "c")]
    variants += [("ctx", "a", "bc"), ("ctx", "ab", "c")]
    keys = {
        bytes(pair_key(A, PUBLIC_B, context.encode(), one, other))
        for context, one, other in variants
    }
    assert len(keys) == len(variants)


@pytest.mark.parametrize("point", [0, 1, 2**255 - 20, 2**255 - 19, 2**255 - 18])
def test_points_of_small_order_are_refused(point: int) -> None:
    """All would give the shared secret 0, which the coordinator knows as well."""
    with pytest.raises(WardroundError) as refusal:
        pair_key(A, point.to_bytes(32, "little"), b"ctx", "a", "b")
    assert refusal.value.code is Code.AGGREGATION


def test_a_key_has_one_encoding() -> None:
    value = int.from_bytes(PUBLIC_A, "little")
    assert canonical_point(PUBLIC_A)
    assert not canonical_point((value | 1 << 255).to_bytes(32, "little"))
    assert not canonical_point((2**255 - 19 + 5).to_bytes(32, "little"))
    assert not canonical_point(PUBLIC_A[:-1])


@given(
    size=st.sampled_from([0, 1, 3, 63, 64, 65, 1000]),
    bits=st.sampled_from([np.uint32, np.uint64]),
    keys=st.lists(st.tuples(st.binary(min_size=32, max_size=32), st.booleans()), max_size=5),
)
def test_adding_and_subtracting_the_same_masks_changes_nothing(
    size: int, bits: type, keys: list[tuple[bytes, bool]]
) -> None:
    words: npt.NDArray[Any] = np.arange(size, dtype=bits)
    add_masks(words, keys)
    add_masks(words, [(key, not positive) for key, positive in keys])
    assert (words == np.arange(size, dtype=bits)).all()


def test_a_mask_does_not_repeat_and_does_not_depend_on_how_it_is_cut() -> None:
    """Longer than a block of keystream: the second block must continue the first."""
    size = (1 << 15) * 3 + 5
    whole = np.zeros(size, dtype=np.uint32)
    add_masks(whole, [(b"k" * 32, True)])
    start = np.zeros(1000, dtype=np.uint32)
    add_masks(start, [(b"k" * 32, True)])
    assert (whole[:1000] == start).all()
    blocks = [whole[i * (1 << 15) : i * (1 << 15) + 1000].tobytes() for i in range(3)]
    assert len(set(blocks)) == 3
    other = np.zeros(1000, dtype=np.uint32)
    add_masks(other, [(b"j" * 32, True)])
    for one, two in itertools.combinations([start, other, whole[1000:2000]], 2):
        assert np.count_nonzero(one == two) <= 2
