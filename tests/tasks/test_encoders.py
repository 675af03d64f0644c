"""Encoders: constants of the task, zero for what is ordinary, each row by itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from protocol.errors import Code, WardroundError
from tasks.encoders import Bands, Encoder, Hinge
from tasks.schema import Column

_SODIUM = Column("sodium", "sodium", low=110, high=170, flag_missing=False, encoder=Hinge(135, 145))
_STAYS = Column("stays", "stays", high=20, flag_missing=False, encoder=Bands((1, 2, 5), usual=True))
_DRUG = Column("drug", "drug", "category", categories=("no", "steady", "up"), usual="no")
_WAY = Column("way", "way in", "category", categories=("door", "roof"), other=True)


def test_a_hinge_is_zero_inside_the_normal_range_and_one_at_the_ends() -> None:
    features = _SODIUM.features(np.array([110, 122.5, 135, 140, 145, 157.5, 170, 20, 900, np.nan]))
    assert features[:, 0].tolist() == [1, 0.5, 0, 0, 0, 0, 0, 1, 0, 0]
    assert features[:, 1].tolist() == [0, 0, 0, 0, 0, 0.5, 1, 0, 1, 0]
    assert _SODIUM.feature_names == ("sodium below 135", "sodium above 145")


def test_a_hinge_with_one_limit_is_one_feature() -> None:
    age = Column("age", "age", low=18, high=90, flag_missing=True, encoder=Hinge(high=45))
    assert age.feature_names == ("age above 45", "age missing")
    assert age.features(np.array([30, 90, np.nan])).tolist() == [[0, 0], [1, 0], [0, 1]]
    albumin = Column("alb", "albumin", low=1, high=6, flag_missing=False, encoder=Hinge(low=3))
    assert albumin.features(np.array([2.0, 5.0])).tolist() == [[0.5], [0]]


def test_bands_are_one_hot_with_the_lowest_left_out_where_it_is_usual() -> None:
    assert _STAYS.feature_names == ("stays 1 to 2", "stays 2 to 5", "stays from 5")
    features = _STAYS.features(np.array([0, 1, 2, 4.9, 5, 80, np.nan]))
    assert features.argmax(axis=1)[1:6].tolist() == [0, 1, 1, 2, 2]
    assert features.sum(axis=1).tolist() == [0, 1, 1, 1, 1, 1, 0]
    all_bands = Bands((1, 2)).encode(np.array([0.0, np.nan]), 0, 9)
    assert all_bands.tolist() == [[1, 0, 0], [0, 0, 0]]


def test_the_usual_category_and_a_missing_one_are_rows_of_zeros() -> None:
    values = np.array(["no", "up", None, "steady"], dtype=object)
    assert _DRUG.feature_names == ("drug=steady", "drug=up")
    assert _DRUG.features(values).tolist() == [[0, 0], [0, 1], [0, 0], [1, 0]]
    with pytest.raises(WardroundError, match="row 2") as caught:
        _DRUG.features(np.array(["no", "CANARY"], dtype=object))
    assert caught.value.code is Code.MALFORMED_DATA


def test_other_takes_what_no_category_is_but_not_what_is_missing() -> None:
    values = np.array(["door", "window", None, "roof"], dtype=object)
    assert _WAY.feature_names == ("way=door", "way=roof", "way=other")
    assert _WAY.features(values).tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Hinge(),
        lambda: Hinge(5, 4),
        lambda: Bands(()),
        lambda: Bands((2, 1)),
        lambda: Column("a", "a", "category", categories=("x", "y"), encoder=Hinge(high=1)),
        lambda: Column("a", "a", "category", categories=("x", "y"), usual="z"),
        lambda: Column("a", "a", other=True),
    ],
)
def test_what_makes_no_sense_is_refused_where_it_is_declared(wrong: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"need|must|none of|is for"):
        wrong()


@given(
    hnp.arrays(np.float64, st.integers(1, 20), elements=st.floats(-1e9, 1e9) | st.just(np.nan)),
    st.sampled_from([Hinge(135, 145), Hinge(low=120), Hinge(high=150), Bands((120.0, 140.0))]),
)
def test_every_feature_is_between_0_and_1_and_a_row_depends_on_itself_alone(
    numbers: np.ndarray, encoder: Encoder
) -> None:
    rows = encoder.encode(numbers, 110, 170)
    assert rows.shape == (len(numbers), len(encoder.names("x")))
    assert ((rows >= 0) & (rows <= 1)).all()
    assert not rows[np.isnan(numbers)].any()
    alone = np.concatenate([encoder.encode(number[None], 110, 170) for number in numbers])
    assert np.array_equal(rows, alone)
