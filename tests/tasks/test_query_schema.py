"""What a query may ask of a label: of each kind of outcome what its column holds."""

from __future__ import annotations

import numpy as np
import pytest

from client.cohorts.query_counts import QueryRecords, count_patients
from protocol.errors import Code, WardroundError
from protocol.outcomes.binary import Binary
from protocol.outcomes.events import EventCount
from protocol.outcomes.kinds import OutcomeKind
from protocol.outcomes.multiclass import Multiclass
from protocol.outcomes.multilabel import MultiLabel
from protocol.outcomes.ordinal import Ordinal
from protocol.outcomes.regression import Regression
from protocol.outcomes.segmentation import Segmentation
from protocol.outcomes.time_to_event import TimeToEvent
from protocol.study.query import Bins, Categories, Cells, Mean, Query
from tasks.query_schema import check, columns, records_schema
from tasks.schema import PATIENT, Column, Image, Schema, Table

AGE = Column("age", "age", unit="a", low=0, high=100)


def asked(outcome: OutcomeKind, *labels: str) -> Schema:
    return records_schema(Schema((AGE,), "outcome", "how it went", labels=labels), outcome)


def categories(number: int) -> tuple[str, ...]:
    return tuple(str(k) for k in range(number))


@pytest.mark.parametrize(
    ("outcome", "number"),
    [(Binary(), 2), (Multiclass(classes=10), 10), (Ordinal(levels=4), 4)],
)
def test_classes_are_categories(outcome: OutcomeKind, number: int) -> None:
    column = columns(asked(outcome))["outcome"]
    assert (column.kind, column.categories) == ("category", categories(number))


@pytest.mark.parametrize(
    ("outcome", "low", "high"),
    [(Regression(low=-20, high=360), -20, 360), (EventCount(most=14), 0, 14)],
)
def test_numbers_are_a_number_of_the_range_that_is_learned(
    outcome: OutcomeKind, low: float, high: float
) -> None:
    column = columns(asked(outcome))["outcome"]
    assert (column.kind, column.low, column.high) == ("number", low, high)


def test_each_column_of_several_is_asked_for_by_its_own_name() -> None:
    found = columns(asked(MultiLabel(labels=2), "effusion", "nodule"))
    assert {*found} == {"age", "effusion", "nodule"}
    assert found["nodule"].categories == categories(2)
    followed = columns(asked(TimeToEvent(ends=(30, 90)), "days", "died"))
    assert (followed["days"].kind, followed["days"].high) == ("number", 90)
    assert followed["died"].categories == categories(2)


def test_a_mask_and_no_label_are_no_column() -> None:
    image = Image("slice", "a slice", 4, 4)
    masked = Schema((AGE,), "outcome", "lungs", images=(image,), masked="slice")
    kind = Segmentation(classes=2, rows=4, columns=4)
    for schema in (records_schema(masked, kind), records_schema(Schema((AGE,), "", ""), Binary())):
        assert {*columns(schema)} == {"age"}


def test_every_class_and_every_number_of_a_label_is_counted() -> None:
    """A label of ten classes was once taken for 0 or 1: sites refused their own data."""
    values = np.array([0.0, 3.0, 9.0, 9.0, np.nan])
    names = np.array(list("pqrst"), dtype=object)
    table: Table = {PATIENT: names, "outcome": values, "age": np.zeros(5)}
    digit = Categories(column="outcome", categories=categories(10))
    query = Query(statistics=(Cells(name="digits", axes=(digit,)),))
    schema = asked(Multiclass(classes=10))
    check(query, schema)
    counts = count_patients(query, QueryRecords(table, schema), 1)
    assert counts.tolist() == [1, 0, 0, 1, 0, 0, 0, 0, 0, 2, 1]  # the last one: missing

    bins = Bins(column="outcome", edges=(0, 5, 10))
    days = Query(
        statistics=(
            Cells(name="days", axes=(bins,)),
            Mean(name="mean", column="outcome", low=0, high=10),
        )
    )
    counted = asked(EventCount(most=10))
    check(days, counted)
    up = count_patients(days, QueryRecords(table, counted), 10)
    assert up.tolist() == [20, 20, 10, 21, 19]


def test_a_number_is_not_asked_for_as_a_category() -> None:
    wrong = Categories(column="outcome", categories=("0", "1"))
    for outcome in (Regression(low=0, high=360), Multiclass(classes=3)):
        with pytest.raises(WardroundError) as raised:
            check(Query(statistics=(Cells(name="by", axes=(wrong,)),)), asked(outcome))
        assert raised.value.code is Code.REFUSED_STUDY
