"""The cohort: who is in it and in which part, decided patient by patient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from client.data.cohort import Cohort
from protocol.errors import Code, WardroundError
from protocol.study.study import Evaluation
from tasks.base import Task
from tasks.schema import Column, Schema, Table

_PLAN = Evaluation(release="exact", fraction=0.25)
_COLUMN = Evaluation(release="exact", split="column")
_SINCE = Evaluation(release="exact", split="date", since="2024-03-01")


class Small(Task):
    name = "small"
    title = "small"
    schema = Schema(
        (
            Column("age", "age", unit="a", low=0, high=100, flag_missing=False),
            Column("sex", "sex", "category", categories=("f", "m")),
        ),
        "dead",
        "1: died",
    )

    def model(self) -> nn.Module:
        return nn.Linear(2, 1)


def _table(rows: list[tuple[Any, Any, Any, Any]], **extra: list[Any]) -> Table:
    patient, age, sex, dead = zip(*rows, strict=True) if rows else ((), (), (), ())
    named = {"patient": patient, "age": age, "sex": sex, "dead": dead} | extra
    return {name: np.array(values, dtype=object) for name, values in named.items()}


def _places(**places: float) -> Callable[[str], float]:
    return lambda patient: places[patient]


def test_patients_split_by_their_place_and_stay_whole() -> None:
    table = _table([("b", 50, "m", 1), ("a", 0, "f", 0), ("b", 100, "m", 0), ("c", 25, "f", 1)])
    cohort = Cohort.build(Small(), table, _places(a=0.74, b=0.75, c=0.1), _PLAN)
    assert cohort.patients == 3
    assert cohort.u.tolist() == [0.74, 0.75, 0.1]
    assert cohort.train.tolist() == [True, False, True]
    assert cohort.evaluation.tolist() == [False, True, False]
    assert cohort.members("train").tolist() == [0, 2]
    assert cohort.members("evaluation").tolist() == [1]
    assert cohort.patient.tolist() == [1, 0, 1, 2]
    assert np.asarray(cohort.labels).tolist() == [1, 0, 0, 1]
    assert np.asarray(cohort.features).tolist() == [[0, 1], [-1, -1], [1, 1], [-0.5, -1]]
    assert cohort.features.dtype == cohort.labels.dtype == np.float32
    assert cohort.notes == ()


_rows = st.lists(
    st.tuples(
        st.sampled_from("abcdef"),
        st.none() | st.integers(0, 100),
        st.sampled_from(["f", "m", None]),
        st.sampled_from([0, 1]),
    ),
    min_size=1,
    max_size=20,
)


@given(rows=_rows, leaves=st.sampled_from("abcdef"))
def test_removing_a_patient_changes_nothing_about_the_others(
    rows: list[tuple[Any, Any, Any, Any]], leaves: str
) -> None:
    def seen(kept: list[tuple[Any, Any, Any, Any]]) -> dict[float, Any]:
        try:
            cohort = Cohort.build(Small(), _table(kept), lambda p: ord(p) / 128, _PLAN)
        except WardroundError:
            return {}
        return {
            float(u): (
                bool(cohort.train[k]),
                cohort.features[cohort.patient == k].tolist(),
                cohort.labels[cohort.patient == k].tolist(),
            )
            for k, u in enumerate(cohort.u)
        }

    everyone, without = seen(rows), seen([row for row in rows if row[0] != leaves])
    everyone.pop(ord(leaves) / 128, None)
    assert everyone == without


@settings(max_examples=30)
@given(rows=_rows, seed=st.integers(0, 2**32 - 1))
def test_a_draw_gives_one_record_of_each_patient_asked(
    rows: list[tuple[Any, Any, Any, Any]], seed: int
) -> None:
    split = ["train" if k % 3 else "evaluation" for k in range(len(rows))]
    try:
        cohort = Cohort.build(Small(), _table(rows, split=split), lambda p: 0.5, _COLUMN)
    except WardroundError:
        return
    for part in ("train", "evaluation"):
        members = cohort.members(part)
        drawn = cohort.draw(members[::-1], part, np.random.default_rng(seed).random(len(members)))
        assert cohort.patient[drawn].tolist() == members[::-1].tolist()
        assert (cohort.in_training[drawn] == (part == "train")).all()


def test_every_record_of_a_patient_is_drawn_equally_often() -> None:
    table = _table([("a", 10, "m", 0), ("b", 20, "m", 0), ("b", 30, "m", 0), ("b", 40, "m", 0)])
    cohort = Cohort.build(Small(), table, lambda p: 0.0, _PLAN)
    generator = np.random.default_rng(5)
    rows = cohort.draw(np.ones(6000, dtype=np.int64), "train", generator.random(6000))
    assert set(rows) == {1, 2, 3}
    assert np.abs(np.bincount(rows)[1:] - 2000).max() < 150


def test_drawing_nobody_gives_no_rows() -> None:
    cohort = Cohort.build(Small(), _table([("a", 1, "f", 0)]), lambda p: 0.0, _PLAN)
    drawn = cohort.draw(cohort.members("evaluation"), "evaluation", np.zeros(0))
    assert drawn.shape == (0,)


def test_a_split_column_decides_for_each_row() -> None:
    table = _table(
        [("a", 1, "f", 0), ("a", 2, "f", 0), ("b", 3, "f", 1)],
        split=["train", "evaluation", "evaluation"],
    )
    cohort = Cohort.build(Small(), table, lambda p: 0.0, _COLUMN)
    assert cohort.train.tolist() == [True, False]
    assert cohort.evaluation.tolist() == [True, True]
    drawn = cohort.draw(np.array([0, 0, 0]), "train", np.array([0.0, 0.5, 1 - 2.0**-53]))
    assert drawn.tolist() == [0, 0, 0]


def test_records_before_a_day_train_and_later_ones_evaluate() -> None:
    table = _table(
        [("a", 1, "f", 0), ("a", 2, "f", 0), ("b", 3, "f", 1), ("c", 4, "m", 0)],
        day=["2024-02-29", "2024-03-01", "2031-01-01", "1999-12-31"],
    )
    cohort = Cohort.build(Small(), table, lambda p: 0.0, _SINCE)
    assert cohort.in_training.tolist() == [True, False, False, True]
    assert cohort.train.tolist() == [True, False, True]
    assert cohort.evaluation.tolist() == [True, True, False]
    assert not _SINCE.disjoint


def test_repeated_contradicting_and_unlabelled_rows_are_set_aside_and_noted() -> None:
    table = _table(
        [
            ("a", 1, "f", 0),
            ("a", 1, "f", 0),
            ("b", 2, "f", 0),
            ("b", 2, "f", 1),
            ("b", 3, "f", 1),
            ("c", 4, "f", None),
            ("d", 1, "f", 1),
        ]
    )
    cohort = Cohort.build(Small(), table, lambda p: 0.0, _PLAN)
    assert cohort.patients == 3
    assert np.asarray(cohort.labels).tolist() == [0, 1, 1]
    assert [note[:6] for note in cohort.notes] == ["1 rows", "1 repe", "1 rows"]


def test_one_patient_under_two_spellings_of_a_number_is_one() -> None:
    table = _table([(7, 1, "f", 0), (7.0, 2, "f", 0), ("7 ", 3, "f", 0), ("007", 4, "f", 0)])
    cohort = Cohort.build(Small(), table, lambda p: 0.0, _PLAN)
    assert cohort.patient.tolist() == [1, 1, 1, 0]


def test_features_are_finite_whatever_a_task_makes_of_a_row() -> None:
    class Wild(Small):
        def features(self, table: Table) -> np.ndarray:
            return np.array([[np.nan, np.inf], [1, -np.inf]], np.float32)

    rows = [("a", 1, "f", 0), ("b", 2, "f", 1)]
    cohort = Cohort.build(Wild(), _table(rows), lambda p: 0.0, _PLAN)
    assert np.asarray(cohort.features).tolist() == [[0, 0], [1, 0]]


@pytest.mark.parametrize(
    ("rows", "extra", "plan", "code", "says"),
    [
        ([], {}, _PLAN, Code.NO_DATA, "no rows"),
        ([("a", 1, "f", None)], {}, _PLAN, Code.NO_DATA, "has a label"),
        ([("a", 1, "f", 0), ("b", 1, "f", 2)], {}, _PLAN, Code.MALFORMED_DATA, "dead, row 2"),
        ([("a", 1, "f", "CANARY")], {}, _PLAN, Code.MALFORMED_DATA, "dead, row 1"),
        ([("a", 1, "f", 0), (None, 1, "f", 0)], {}, _PLAN, Code.MALFORMED_DATA, "patient, row 2"),
        ([(" ", 1, "f", 0)], {}, _PLAN, Code.MALFORMED_DATA, "patient, row 1"),
        ([("a", "CANARY", "f", 0)], {}, _PLAN, Code.MALFORMED_DATA, "age, row 1"),
        ([("a", 1, "CANARY", 0)], {}, _PLAN, Code.MALFORMED_DATA, "sex, row 1"),
        ([("a", 1, "f", 0)], {}, _COLUMN, Code.MALFORMED_DATA, "lacks"),
        ([("a", 1, "f", 0)], {"split": ["CANARY"]}, _COLUMN, Code.MALFORMED_DATA, "split, row 1"),
        ([("a", 1, "f", 0)], {}, _SINCE, Code.MALFORMED_DATA, "column day"),
        ([("a", 1, "f", 0)], {"day": [None]}, _SINCE, Code.MALFORMED_DATA, "day, row 1"),
        ([("a", 1, "f", 0)], {"day": ["1.3.2024"]}, _SINCE, Code.MALFORMED_DATA, "day, row 1"),
        ([("a", 1, "f", 0)], {"dead": [0, 1]}, _PLAN, Code.MALFORMED_DATA, "differ in length"),
    ],
)
def test_what_a_cohort_cannot_be_made_of_is_named_and_not_quoted(
    rows: list[Any], extra: dict[str, list[Any]], plan: Evaluation, code: Code, says: str
) -> None:
    with pytest.raises(WardroundError, match=says) as caught:
        Cohort.build(Small(), _table(rows, **extra), lambda p: 0.0, plan)
    assert caught.value.code is code
    assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize("column", ["patient", "age", "sex", "dead"])
def test_a_missing_column_is_named(column: str) -> None:
    table = {k: v for k, v in _table([("a", 1, "f", 0)]).items() if k != column}
    with pytest.raises(WardroundError, match=f"lacks the column {column}"):
        Cohort.build(Small(), table, lambda p: 0.0, _PLAN)


def test_a_wrong_unit_and_an_empty_column_are_doubted_aloud() -> None:
    months = _table([("a", 600, "f", 0), ("b", 720, "f", 1), ("c", 40, "f", 1)])
    assert "is the unit right" in Cohort.build(Small(), months, lambda p: 0.0, _PLAN).notes[0]
    nothing = _table([("a", None, "f", 0), ("b", None, "f", 1)])
    assert "missing in every row" in Cohort.build(Small(), nothing, lambda p: 0.0, _PLAN).notes[0]


def test_a_cohort_holds_no_identifier_and_cannot_be_written_to() -> None:
    cohort = Cohort.build(Small(), _table([("CANARY", 1, "f", 0)]), lambda p: 0.0, _PLAN)
    assert "CANARY" not in repr(vars(cohort))
    with pytest.raises(ValueError, match="read-only"):
        np.asarray(cohort.features)[0, 0] = 1.0
