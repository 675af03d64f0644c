"""Conditions as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.queries.condition_parser import parse
from protocol.errors import Code, WardroundError
from protocol.outcomes.binary import Binary
from protocol.study.condition import (
    AllOf,
    AnyOf,
    Comparison,
    Condition,
    IsMissing,
    IsOneOf,
    Not,
    in_words,
)
from tasks.query_schema import records_schema
from tasks.schema import Column, Schema

SCHEMA = records_schema(
    Schema(
        (
            Column("age", "age", unit="a", low=0, high=100),
            Column("sex", "sex", "category", categories=("female", "male")),
            Column("ward", "ward", "category", categories=("a b", "and", "it's", "x"), other=True),
        ),
        "died",
        "died in hospital",
    ),
    Binary(),
)
LEAVES = st.one_of(
    st.builds(
        Comparison,
        column=st.just("age"),
        order=st.sampled_from(["<", "<=", ">", ">=", "=", "!="]),
        value=st.floats(-1e6, 1e6).map(lambda value: float(f"{value:.12g}")),
    ),
    st.builds(
        IsOneOf,
        column=st.just("ward"),
        categories=st.lists(
            st.sampled_from(["a b", "and", "it's", "x", "other"]), min_size=1, unique=True
        ).map(tuple),
    ),
    st.builds(IsMissing, column=st.sampled_from(["age", "sex", "died"])),
)
CONDITIONS: st.SearchStrategy[Condition] = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(Not, of=inner),
        st.builds(AllOf, of=st.lists(inner, min_size=2, max_size=3).map(tuple)),
        st.builds(AnyOf, of=st.lists(inner, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=8,
)


@given(CONDITIONS)
def test_what_is_said_in_words_is_read_as_the_same(condition: Condition) -> None:
    assert parse(in_words(condition), SCHEMA) == condition


def test_and_binds_closer_than_or_and_not_closer_than_and() -> None:
    found = parse("age < 1 or age > 2 and not sex = male", SCHEMA)
    assert in_words(found) == "age < 1 or (age > 2 and not (sex = male))"
    assert in_words(parse("AGE_ IS missing".replace("AGE_", "age"), SCHEMA)) == "age is missing"
    assert parse("age between 40 and 60", SCHEMA) == parse("age >= 40 and age <= 60", SCHEMA)
    assert parse("sex != male", SCHEMA) == parse("not sex in (male)", SCHEMA)
    assert parse("age is not missing", SCHEMA) == parse("not (age is null)", SCHEMA)
    assert in_words(parse("died = 1", SCHEMA)) == "died = 1"


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("ag > 3", Code.REFUSED_STUDY, "Did you mean age?"),
        ("sex = femal", Code.REFUSED_STUDY, "Did you mean female?"),
        ("sex > 3", Code.REFUSED_STUDY, "category column sex"),
        ("age in (x)", Code.REFUSED_STUDY, "number column age"),
        ("age = old", Code.CONFIGURATION, "'old' is no number"),
        ("age > nan", Code.CONFIGURATION, "no number"),
        ("age > 1e400", Code.CONFIGURATION, "no number"),
        ("", Code.CONFIGURATION, "it is empty"),
        ("age", Code.CONFIGURATION, "expected a comparison"),
        ("age > 3 4", Code.CONFIGURATION, "did not expect '4'"),
        ("(age > 3", Code.CONFIGURATION, "and it ended"),
        ("age > 3; DROP TABLE x", Code.CONFIGURATION, "is no part of a condition"),
        ("age > (SELECT 1)", Code.CONFIGURATION, "expected a number"),
        ("not " * 500 + "age > 3", Code.CONFIGURATION, "too deeply"),
        ("(" * 500, Code.CONFIGURATION, "too deeply"),
    ],
)
def test_what_cannot_be_read_is_explained(text: str, code: Code, said: str) -> None:
    with pytest.raises(WardroundError) as caught:
        parse(text, SCHEMA)
    assert caught.value.code is code
    assert said in str(caught.value)


@given(st.text(max_size=40))
def test_nothing_but_a_condition_or_an_explanation_comes_of_any_text(text: str) -> None:
    code = None
    try:
        parse(text, SCHEMA)
    except WardroundError as error:
        code = error.code
    assert code in (None, Code.CONFIGURATION, Code.REFUSED_STUDY)
