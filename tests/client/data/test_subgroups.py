"""In which level a record is: its own value decides, and nobody falls out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.data.subgroups import levels_of
from protocol.errors import Code, WardroundError
from protocol.study.subgroups import Bands, Categories, HospitalClass, Hospitals
from tasks.schema import Column, Schema

SCHEMA = Schema(
    (
        Column("age", "age", unit="a", low=0, high=100, missing_at=(-1.0,)),
        Column("sex", "sex", "category", categories=("f", "m")),
    ),
    "dead",
    "1: died",
)
AGE, SEX = Bands(column="age", cuts=(40.0, 65.0)), Categories(column="sex", values=("f", "m"))
VALUES = st.none() | st.floats() | st.sampled_from(["f", "m", "", "nan", "F"])


def column(*values: Any) -> np.ndarray[Any, Any]:
    return np.array([*values, None], dtype=object)[:-1]


def test_bands_hold_their_lower_cut_and_what_is_no_age_is_missing() -> None:
    ages = column(39.9, 40, 64, 65, 200, None, float("nan"), float("inf"), -1)
    levels = levels_of([AGE], SCHEMA, {"age": ages}, len(ages))[:, 0]
    assert levels.tolist() == [0, 1, 1, 2, 2, 3, 3, 3, 3]


def test_what_is_none_of_the_values_is_missing_and_nan_is_no_word() -> None:
    words = column("f", "m", None, float("nan"), "nan", "F", 1.0)
    levels = levels_of([SEX], SCHEMA, {"sex": words}, len(words))[:, 0]
    assert levels.tolist() == [0, 1, 2, 2, 2, 2, 2]
    numbers = Categories(column="ward", values=("1", "2"))
    wards = column(1, 2.0, "2", True, 3)
    levels = levels_of([numbers], SCHEMA, {"ward": wards}, len(wards))[:, 0]
    assert levels.tolist() == [0, 1, 1, 0, 2]


@given(st.lists(VALUES, min_size=1, max_size=8))
def test_a_record_is_in_one_level_whoever_else_is_there(values: list[Any]) -> None:
    table = {"sex": column(*values)}
    together = levels_of([SEX], SCHEMA, table, len(values))
    assert together.shape == (len(values), 1)
    assert ((together >= 0) & (together < len(SEX.levels))).all()
    for row, value in enumerate(values):
        alone = levels_of([SEX], SCHEMA, {"sex": column(value)}, 1)
        assert alone[0] == together[row]


def test_a_column_that_the_view_lacks_or_that_holds_no_numbers_is_named() -> None:
    with pytest.raises(WardroundError, match="by the column sex, which the view lacks") as caught:
        levels_of([SEX], SCHEMA, {"age": column(1)}, 1)
    assert caught.value.code is Code.MALFORMED_DATA
    stay = Bands(column="stay", cuts=(3.0,))
    with pytest.raises(WardroundError, match="Column stay, row 2 of the view: not a number") as bad:
        levels_of([stay], SCHEMA, {"stay": column(1, "Huber")}, 2)
    assert "Huber" not in str(bad.value)


def test_hospitals_are_told_apart_without_any_column() -> None:
    classes = (HospitalClass(level="x", sites=("a", "b", "c")),)
    vendor = Hospitals(attribute="vendor", classes=classes)
    assert levels_of([vendor, SEX], SCHEMA, {"sex": column("m")}, 1).tolist() == [[0, 1]]
