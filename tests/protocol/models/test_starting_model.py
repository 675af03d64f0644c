"""A model that another study starts from: whether it fits, and that its epsilon comes along."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from protocol.errors import Code, WardroundError
from protocol.models.starting_model import (
    StartingModel,
    carried,
    check_parent,
    check_weights,
    in_words,
)
from protocol.outcomes.regression import Regression
from protocol.study.start import Start
from protocol.study.study import Study
from tests.client.hospital import study

WEIGHTS = np.linspace(-1, 1, 31, dtype=np.float32)
RECORD = "c" * 64


def private(epsilon: float, delta: float = 1e-5, **changes: Any) -> Study:
    return study(privacy__epsilon=epsilon, privacy__delta=delta, **changes)


def released(parent: Study) -> Start:
    return StartingModel.of("cancer/1", RECORD, parent, WEIGHTS).start


def child(parent: Study, **changes: Any) -> Study:
    return study(nonce="1" * 16, start=released(parent).model_dump(), **changes)


def refusal(of: Study, parent: Study) -> WardroundError:
    with pytest.raises(WardroundError) as refused:
        check_parent(of, parent)
    assert refused.value.code is Code.REFUSED_STUDY
    return refused.value


@given(
    st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=6),
    st.lists(st.floats(1e-9, 1e-3), min_size=6, max_size=6),
)
def test_what_comes_along_is_never_below_the_exact_sum(
    epsilons: list[float], deltas: list[float]
) -> None:
    made: Study | None = None
    for number, (epsilon, delta) in enumerate(zip(epsilons, deltas, strict=False)):
        start = {} if made is None else {"start": released(made).model_dump()}
        made = private(epsilon, delta, nonce=f"{number:016x}", **start)
    assert made is not None
    epsilon_in_all, delta_in_all = carried(made)
    assert epsilon_in_all is not None
    assert delta_in_all is not None
    exact = sum(map(Fraction, epsilons)), sum(map(Fraction, deltas[: len(epsilons)]))
    assert Fraction(epsilon_in_all) >= exact[0]
    assert Fraction(delta_in_all) >= exact[1]
    assert epsilon_in_all == pytest.approx(float(exact[0]))
    assert released(made).studies == len(epsilons)


def test_no_epsilon_comes_along_where_some_study_had_none() -> None:
    plain = study(
        privacy={"mode": "none", "epsilon": 1.0}, evaluation={"every": 5, "noise_multiplier": 9.0}
    )
    assert carried(plain) == (None, None), "its evaluation alone had noise"
    later = child(plain)
    assert carried(later) == (None, None)
    assert released(later).epsilon is None
    assert "no epsilon covers" in in_words(later)
    shown = study(evaluation={"release": "exact"})
    assert carried(shown) == (None, None), "its scores were summed without noise"


def test_it_is_said_what_comes_along() -> None:
    of = child(private(2.0004, 1e-6))
    said = in_words(of)
    assert "cancer/1" in said
    assert "epsilon 2.001 at delta 1e-06" in said, "rounded up"
    assert "6.001 at delta 1.1e-05 in all" in said
    assert in_words(study()) == ""
    assert "the last of 2 studies" in in_words(child(of))


def test_a_study_that_fits_may_start() -> None:
    parent = private(2.0)
    check_parent(child(parent), parent)
    check_parent(study(), parent)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"task__name": "heart_disease"}, "another task"),
        ({"task__version": 2}, "another version of the task"),
        ({"outcome": Regression(low=0, high=9).model_dump()}, "another kind of outcome"),
        ({"model__layout": "d" * 64}, "another parameters or their layout"),
        ({"model__parameters": 30}, "another parameters or their layout"),
        ({"model__frozen": "e" * 64}, "another frozen parameters"),
    ],
)
def test_another_architecture_is_refused_by_name(changes: dict[str, Any], why: str) -> None:
    parent = private(2.0)
    error = refusal(child(parent, **changes), parent)
    assert why in error.message
    assert "cancer/1" in error.message


@pytest.mark.parametrize(
    "lie",
    [
        {"epsilon": 1.9, "delta": 1e-5},
        {"epsilon": 2.0, "delta": 1e-6},
        {"studies": 2},
        {"study": "f" * 64},
    ],
)
def test_who_knows_the_other_study_sees_through_a_lie_about_it(lie: dict[str, Any]) -> None:
    parent = private(2.0)
    start = released(parent).model_dump() | lie
    refusal(study(nonce="1" * 16, start=start), parent)


def test_an_epsilon_is_not_invented_where_there_was_none() -> None:
    parent = study(
        privacy={"mode": "none", "epsilon": 1.0}, evaluation={"every": 5, "noise_multiplier": 9.0}
    )
    start = released(parent).model_dump() | {"epsilon": 100.0, "delta": 0.1}
    assert "less epsilon" in refusal(study(nonce="1" * 16, start=start), parent).message


def test_other_weights_are_noticed() -> None:
    start = released(private(2.0))
    check_weights(start, WEIGHTS)
    other = WEIGHTS.copy()
    other[7] = np.nextafter(other[7], np.float32(2))
    with pytest.raises(WardroundError) as refused:
        check_weights(start, other)
    assert refused.value.code is Code.WEIGHTS


def test_a_document_states_both_or_neither() -> None:
    whole = released(private(2.0)).model_dump()
    with pytest.raises(ValidationError, match="both stated, or neither"):
        Start.model_validate(whole | {"delta": None})
    with pytest.raises(ValidationError):
        Start.model_validate(whole | {"model": "cancer"})


def test_a_study_without_one_is_written_as_ever() -> None:
    assert b"start" not in study().document
    of = child(private(2.0))
    assert Study.parse(of.document).start == of.start
