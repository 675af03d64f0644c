"""Public ranges and missing values: a row's features depend on that row and on nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from protocol.errors import Code, WardroundError
from tasks.schema import Column, Schema

_AGE = Column("age", "age", unit="a", low=20, high=80)
_SEX = Column("sex", "sex", "category", categories=("f", "m"))
_PAIN = Column("cp", "pain", "category", categories=("1", "2", "3"))


def test_a_number_becomes_its_place_in_the_public_range() -> None:
    features = _AGE.features(np.array([20, 50, 80, 110, -5, np.nan, np.inf]))
    assert features[:, 0].tolist() == [-1, 0, 1, 1, -1, 0, 0]
    assert features[:, 1].tolist() == [0, 0, 0, 0, 0, 1, 1]


def test_an_impossible_zero_is_missing_and_not_the_lowest_value() -> None:
    column = Column("chol", "cholesterol", low=100, high=400, missing_at=(0.0,))
    assert column.features(np.array([0.0, 100.0, 250.0])).tolist() == [[0, 1], [-1, 0], [0, 0]]


def test_without_a_flag_a_missing_number_is_the_middle_of_the_range() -> None:
    column = Column("bp", "pressure", low=80, high=200, flag_missing=False)
    assert column.width == 1
    assert column.features(np.array([np.nan, 200.0])).tolist() == [[0], [1]]


def test_two_categories_are_one_signed_feature_and_more_are_one_hot() -> None:
    sex = np.array(["f", "m", None], dtype=object)
    assert _SEX.features(sex).tolist() == [[-1], [1], [0]]
    pain = np.array(["3", "1", None], dtype=object)
    assert _PAIN.features(pain).tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    "values", [np.array([3.0, np.nan]), np.array([3, None], dtype=object), np.array(["3", None])]
)
def test_a_code_may_come_as_a_number(values: np.ndarray) -> None:
    assert _PAIN.features(values.astype(object)).tolist() == [[0, 0, 1], [0, 0, 0]]
    assert _PAIN.features(np.array([1, 2])).tolist() == [[1, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize(
    ("column", "values"),
    [(_PAIN, ["1", "CANARY"]), (_SEX, ["f", "CANARY"]), (_AGE, ["50", "CANARY"]), (_AGE, [50, {}])],
)
def test_what_is_neither_a_number_nor_a_category_is_named_by_row_and_not_quoted(
    column: Column, values: list[Any]
) -> None:
    with pytest.raises(WardroundError, match=f"Column {column.name}, row 2") as caught:
        column.features(np.array(values, dtype=object))
    assert caught.value.code is Code.MALFORMED_DATA
    assert "CANARY" not in str(caught.value)
    assert caught.value.__cause__ is None


@given(hnp.arrays(np.float64, st.integers(1, 8)), st.integers(0, 7))
def test_features_are_finite_bounded_and_each_row_stands_alone(
    numbers: np.ndarray, other: int
) -> None:
    features = _AGE.features(numbers)
    assert np.isfinite(features).all()
    assert np.abs(features).max() <= 1
    changed = numbers.copy()
    changed[other % len(numbers)] = 33.0
    untouched = np.arange(len(numbers)) != other % len(numbers)
    assert np.array_equal(_AGE.features(changed)[untouched], features[untouched])


def test_a_schema_names_every_feature_and_refuses_a_table_without_a_column() -> None:
    schema = Schema((_AGE, _SEX, _PAIN), "dead", "1: died")
    table = {
        "age": np.array([50.0]),
        "sex": np.array(["m"], dtype=object),
        "cp": np.array(["2"], dtype=object),
    }
    assert schema.features(table).tolist() == [[0, 0, 1, 0, 1, 0]]
    assert schema.feature_names == ("age", "age missing", "sex=m", "cp=1", "cp=2", "cp=3")
    assert schema.width == len(schema.feature_names)
    assert schema.names == ("patient", "age", "sex", "cp", "dead")
    del table["cp"]
    with pytest.raises(WardroundError, match="lacks the column cp"):
        schema.features(table)


@pytest.mark.parametrize(
    "wrong",
    [
        {"low": 1.0, "high": 1.0},
        {"kind": "category", "categories": ("1",)},
        {"kind": "category", "categories": ("1", "1", "2")},
    ],
)
def test_a_column_that_makes_no_sense_cannot_be_declared(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="column x"):
        Column("x", "x", **wrong)
