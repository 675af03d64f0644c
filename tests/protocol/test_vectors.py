"""The flat vector: packing loses nothing, and nothing of another layout gets through."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from protocol.errors import Code, WardroundError
from protocol.vectors import Layout, in_range, pack, unpack

_shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
_tensors = st.dictionaries(
    st.text(min_size=1, max_size=8),
    _shapes.flatmap(lambda shape: hnp.arrays(np.float32, shape)),
    min_size=1,
    max_size=5,
)


def layout_of(tensors: dict[str, np.ndarray]) -> Layout:
    return Layout(tuple((name, array.shape) for name, array in tensors.items()))


@given(_tensors)
def test_unpack_undoes_pack_bit_for_bit(tensors: dict[str, np.ndarray]) -> None:
    layout = layout_of(tensors)
    flat = pack(tensors, layout)
    assert flat.shape == (layout.size,)
    back = unpack(flat, layout)
    assert list(back) == list(tensors)
    for name, tensor in tensors.items():
        assert back[name].shape == tensor.shape
        assert back[name].tobytes() == tensor.tobytes()


@given(_tensors, st.data())
def test_pack_undoes_unpack(tensors: dict[str, np.ndarray], data: st.DataObject) -> None:
    layout = layout_of(tensors)
    flat = data.draw(hnp.arrays(np.float32, layout.size))
    assert pack(unpack(flat, layout), layout).tobytes() == flat.tobytes()


def test_order_is_the_layouts_whatever_the_mappings() -> None:
    a, b = np.array([1, 2], np.float32), np.array([[3], [4]], np.float32)
    layout = Layout((("a", (2,)), ("b", (2, 1))))
    assert pack({"b": b, "a": a}, layout).tolist() == [1, 2, 3, 4]


def test_unpacked_tensors_are_views() -> None:
    flat = np.zeros(3, dtype=np.float32)
    unpack(flat, Layout((("w", (3,)),)))["w"][1] = 7
    assert flat.tolist() == [0, 7, 0]


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"w": np.zeros(2, np.float32), "extra": np.zeros(1, np.float32)},
        {"other": np.zeros(2, np.float32)},
        {"w": np.zeros((2, 1), np.float32)},
        {"w": np.zeros(3, np.float32)},
        {"w": np.zeros(2, np.float64)},
    ],
)
def test_pack_refuses_another_layout(tensors: dict[str, np.ndarray]) -> None:
    with pytest.raises(WardroundError) as caught:
        pack(tensors, Layout((("w", (2,)),)))
    assert caught.value.code is Code.MESSAGE


@pytest.mark.parametrize(
    "flat", [np.zeros(1, np.float32), np.zeros(3, np.float32), np.zeros(2), np.zeros((2, 1))]
)
def test_unpack_refuses_another_length_or_type(flat: np.ndarray) -> None:
    with pytest.raises(WardroundError) as caught:
        unpack(flat, Layout((("w", (2,)),)))
    assert caught.value.code is Code.MESSAGE


def test_layouts_that_differ_in_order_name_or_shape_differ_in_digest() -> None:
    layouts = [
        Layout((("a", (2,)), ("b", (3,)))),
        Layout((("b", (3,)), ("a", (2,)))),
        Layout((("a", (2,)), ("c", (3,)))),
        Layout((("a", (2,)), ("b", (3, 1)))),
        Layout((("a", (3,)), ("b", (2,)))),
    ]
    assert len({layout.digest for layout in layouts}) == len(layouts)


@given(hnp.arrays(np.float32, st.integers(0, 5)))
def test_what_is_in_range_is_a_number_of_at_most_1024(flat: np.ndarray) -> None:
    assert in_range(flat) == all(-1024 <= float(one) <= 1024 for one in flat)


@pytest.mark.parametrize("value", [1024.0, 1024.0001, np.inf, np.nan])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_ends_of_the_range_belong_to_it(value: float, sign: int) -> None:
    assert in_range(np.array([0, sign * value], np.float32)) == (value == 1024)
