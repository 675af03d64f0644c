"""A site's part of a query: conditions as SQL would judge them, one patient one cell."""

from __future__ import annotations

from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.cohorts import query_counts
from client.cohorts.query_counts import QueryContributor, QueryRecords, count_patients
from protocol.errors import Code, WardroundError
from protocol.outcomes.binary import Binary
from protocol.privacy.randomness import PatientDraws
from protocol.study.condition import AllOf, AnyOf, Comparison, Condition, IsMissing, IsOneOf, Not
from protocol.study.query import Bins, Categories, Cells, ConditionAxis, Mean, Query
from protocol.study.vector_layout import Sections
from tasks.query_schema import records_schema
from tasks.schema import PATIENT, Column, Schema, Table
from tests.protocol.query_document import asked

SCHEMA = records_schema(
    Schema(
        (
            Column("age", "age", unit="a", low=0, high=100, missing_at=(-1.0,)),
            Column("dose", "dose", unit="mg", low=0, high=10),
            Column("sex", "sex", "category", categories=("f", "m")),
            Column("ward", "ward", "category", categories=("a", "b", "c"), other=True),
        ),
        "died",
        "died",
    ),
    Binary(),
)
NUMBERS = st.one_of(st.none(), st.sampled_from([-5.0, 0.0, 3.0, 50.0, 60.0, 99.5, 120.0]))
ROWS = st.lists(
    st.tuples(
        st.sampled_from("pqrstu"),
        NUMBERS,
        NUMBERS,
        st.sampled_from([None, "f", "m"]),
        st.sampled_from([None, "a", "b", "c", "z"]),
        st.sampled_from([None, 0.0, 1.0]),
    ),
    min_size=1,
    max_size=25,
)
NAMES = (PATIENT, "age", "dose", "sex", "ward", "died")
LEAVES = st.one_of(
    st.builds(
        Comparison,
        column=st.sampled_from(["age", "dose"]),
        order=st.sampled_from(["<", "<=", ">", ">=", "=", "!="]),
        value=st.sampled_from([-5.0, 0.0, 50.0, 59.9, 60.0]),
    ),
    st.builds(
        IsOneOf,
        column=st.just("sex"),
        categories=st.sampled_from([("f",), ("m",), ("f", "m")]),
    ),
    st.builds(
        IsOneOf,
        column=st.just("ward"),
        categories=st.sampled_from([("a",), ("b", "c"), ("a", "other")]),
    ),
    st.builds(IsOneOf, column=st.just("died"), categories=st.sampled_from([("0",), ("1",)])),
    st.builds(IsMissing, column=st.sampled_from(["age", "sex", "ward", "died"])),
)
CONDITIONS: st.SearchStrategy[Condition] = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(Not, of=inner),
        st.builds(AllOf, of=st.tuples(inner, inner)),
        st.builds(AnyOf, of=st.tuples(inner, inner, inner)),
    ),
    max_leaves=6,
)


def table_of(rows: list[tuple[Any, ...]]) -> Table:
    columns = list(zip(*rows, strict=True))
    numbers = ("age", "dose", "died")
    return {
        name: np.array([np.nan if v is None else v for v in column], dtype=np.float64)
        if name in numbers
        else np.array(column, dtype=object)
        for name, column in zip(NAMES, columns, strict=True)
    }


def sql(condition: Condition) -> str:
    """The same in SQL, whose nulls are three-valued too."""
    if isinstance(condition, Comparison):
        return f"({condition.column} {condition.order} {condition.value})"
    if isinstance(condition, IsOneOf):
        if condition.column == "died":
            return f"(died IN ({','.join(condition.categories)}))"
        listed = ",".join(f"'{c}'" for c in condition.categories)
        known = "('a','b','c')"
        value = f"CASE WHEN ward IN {known} THEN ward WHEN ward IS NOT NULL THEN 'other' END"
        return f"({value if condition.column == 'ward' else condition.column} IN ({listed}))"
    if isinstance(condition, IsMissing):
        return f"({condition.column} IS NULL)"
    if isinstance(condition, Not):
        return f"(NOT {sql(condition.of)})"
    word = " AND " if isinstance(condition, AllOf) else " OR "
    return f"({word.join(sql(part) for part in condition.of)})"


def in_duckdb(rows: list[tuple[Any, ...]], select: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(":memory:") as connection:
        connection.execute(
            "CREATE TABLE r (n INTEGER, patient VARCHAR, age DOUBLE, dose DOUBLE, sex VARCHAR,"
            " ward VARCHAR, died DOUBLE)"
        )
        numbered = [(n, *row) for n, row in enumerate(rows)]
        connection.executemany("INSERT INTO r VALUES (?, ?, ?, ?, ?, ?, ?)", numbered)
        return connection.execute(select).fetchall()


@settings(max_examples=60)
@given(rows=ROWS, condition=CONDITIONS)
def test_a_condition_is_true_false_or_unknown_as_in_sql(
    rows: list[tuple[Any, ...]], condition: Condition
) -> None:
    truth = QueryRecords(table_of(rows), SCHEMA).truth(condition)
    found = [
        True if t else (False if f else None) for t, f in zip(truth.true, truth.false, strict=True)
    ]
    select = f"SELECT {sql(condition)} FROM r ORDER BY n"
    assert found == [row[0] for row in in_duckdb(rows, select)]
    assert not (truth.true & truth.false).any()


@settings(max_examples=60)
@given(rows=ROWS, where=CONDITIONS, own=CONDITIONS)
def test_counts_are_of_patients_by_their_first_record_that_meets_the_conditions(
    rows: list[tuple[Any, ...]], where: Condition, own: Condition
) -> None:
    sexes = Categories(column="sex", categories=("f", "m"))
    query = Query(where=where, statistics=(Cells(name="n", where=own, axes=(sexes,)),))
    counts = count_patients(query, QueryRecords(table_of(rows), SCHEMA), 1)
    met = f"{sql(where)} AND {sql(own)}"
    expected = dict(
        in_duckdb(
            rows,
            f"SELECT sex, count(*) FROM (SELECT sex FROM r WHERE {met}"
            " QUALIFY row_number() OVER (PARTITION BY patient ORDER BY n) = 1) GROUP BY sex",
        )
    )
    assert counts.tolist() == [expected.get(sex, 0) for sex in ("f", "m", None)]


STATISTICS = (
    Cells(name="count"),
    Cells(name="age", axes=(Bins(column="age", edges=(0, 50, 60, 100)),)),
    Cells(name="outside", axes=(Bins(column="dose", edges=(0, 10), outside=True),)),
    Cells(
        name="table",
        axes=(
            Categories(column="ward", categories=("a", "b", "c", "other")),
            ConditionAxis(condition=Comparison(column="age", order=">", value=50)),
        ),
    ),
    Mean(name="mean", column="dose", low=0, high=10),
)


@given(rows=ROWS, where=st.one_of(st.none(), CONDITIONS), scale=st.sampled_from([1, 8]))
def test_one_patient_more_or_less_moves_each_statistic_by_the_scale_at_most(
    rows: list[tuple[Any, ...]], where: Condition | None, scale: int
) -> None:
    query = Query(where=where, statistics=STATISTICS)
    gone = rows[0][0]
    left = [row for row in rows if row[0] != gone]
    # A mean's rounding is drawn anew; two draws for the patients who stay are no sensitivity.
    fixed = [
        (*row[:2], None if row[2] is None else round(row[2] / 10) * 10, *row[3:]) for row in rows
    ]
    kept = [row for row in fixed if row[0] != gone]
    more = count_patients(query, QueryRecords(table_of(fixed), SCHEMA), scale)
    less = (
        count_patients(query, QueryRecords(table_of(kept), SCHEMA), scale)
        if left
        else np.zeros_like(more)
    )
    for where_ in query.slices:
        assert np.abs(more[where_] - less[where_]).sum() <= scale
        assert (more[where_] >= less[where_]).all()


def test_values_go_to_the_bin_that_says_so() -> None:
    ages = [None, -5.0, 0.0, 49.9, 50.0, 60.0, 100.0, 120.0, -1.0, np.inf]
    rows = [(f"p{n}", age, None, None, None, None) for n, age in enumerate(ages)]
    records = QueryRecords(table_of(rows), SCHEMA)
    axis = Bins(column="age", edges=(0, 50, 60, 100))
    inside = Query(statistics=(Cells(name="n", axes=(axis,)),))
    assert count_patients(inside, records, 1).tolist() == [3, 1, 3, 3]
    outside = Bins(column="age", edges=(0, 50, 60, 100), outside=True)
    query = Query(statistics=(Cells(name="n", axes=(outside,)),))
    assert count_patients(query, records, 1).tolist() == [1, 2, 1, 2, 1, 3]


def test_a_mean_is_of_clipped_values_and_rounds_without_bias() -> None:
    rows: list[tuple[Any, ...]] = [(f"p{n}", None, 3.3, None, None, None) for n in range(20_000)]
    rows += [("none", None, None, None, None, None), ("over", None, 99.0, None, None, None)]
    query = Query(statistics=(Mean(name="m", column="dose", low=0, high=10),))
    first, second = count_patients(query, QueryRecords(table_of(rows), SCHEMA), 8)
    assert first + second == 8 * 20_001
    # 20,000 draws between 2 and 3 of 8: a deviation of 6 has a probability below 1e-8
    deviation = np.sqrt(20_000 * 0.64 * 0.36)
    assert abs(first - 8 - 20_000 * 0.33 * 8) < 6 * deviation


def test_a_value_beyond_the_range_of_a_mean_counts_as_its_end() -> None:
    rows = [(f"p{n}", None, dose, None, None, None) for n, dose in enumerate([0.0, 2.0, 9.0])]
    mean = Query(statistics=(Mean(name="m", column="dose", low=2, high=4),))
    assert count_patients(mean, QueryRecords(table_of(rows), SCHEMA), 8).tolist() == [8, 16]


def test_a_mean_rounds_by_draws_of_the_patients_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same draws, somebody who is there or not moves nobody else's rounding."""
    monkeypatch.setattr(query_counts, "PatientDraws", lambda: PatientDraws(bytes(32)))
    query = Query(statistics=(Mean(name="m", column="dose", low=0, high=10),))

    def counted(patients: set[int]) -> int:
        rows = [(f"p{n:02}", None, n / 4.1, None, None, None) for n in sorted(patients)]
        return int(count_patients(query, QueryRecords(table_of(rows), SCHEMA), 8)[0])

    everyone = set(range(40))
    for gone in everyone:
        assert counted(everyone) - counted(everyone - {gone}) == counted({gone})


def test_what_is_malformed_is_found_before_anything_is_counted() -> None:
    rows = [("p", 1.0, 1.0, "f", "a", None), ("q", 2.0, 1.0, "x", "a", None)]
    study = asked(
        {
            "statistics": [
                {
                    "kind": "cells",
                    "name": "n",
                    "axes": [{"kind": "categories", "column": "sex", "categories": ["f", "m"]}],
                }
            ]
        }
    )
    with pytest.raises(WardroundError) as caught:
        QueryContributor.of(study, SCHEMA, table_of(rows))
    assert caught.value.code is Code.MALFORMED_DATA
    assert "row 2" in caught.value.message
    assert "'x'" not in str(caught.value)
    with pytest.raises(WardroundError) as caught:
        QueryRecords(table_of([(None, 1.0, 1.0, "f", "a", None)]), SCHEMA)
    assert caught.value.code is Code.MALFORMED_DATA


def test_a_respondent_adds_counts_and_shares_of_noise() -> None:
    study = asked({"statistics": [{"kind": "cells", "name": "n"}]})
    rows = [(f"p{n}", 1.0, 1.0, "f", "a", None) for n in range(7)]
    respondent = QueryContributor.of(study, SCHEMA, table_of(rows))
    sections = Sections(study, train=False, evaluate=True)
    given_ = respondent.contribution(sections, np.zeros(0, np.float32), 1)
    assert given_.tolist() == [7]
    assert respondent.records.patients == 7
    draws = [int(respondent.noise(sections, 3)[0]) for _ in range(50)]
    assert len(set(draws)) > 3
