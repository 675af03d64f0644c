"""A gate opens where all of the interval is on its good side, and for nothing that is unknown."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.outcomes.estimates import Estimate
from protocol.study.gates import Gates
from server.outcome import Approvals, Outcome
from server.report.gates import failed, judged
from tests.server.outcomes import outcome, study

BETWEEN = st.floats(0, 1)


def ended(gates: Gates | None, **parts: Any) -> Outcome:
    made = study().model_copy(update={"gates": gates})
    return replace(outcome(study()), **{"study": made, **parts})


def passes(gates: Gates, **parts: Any) -> bool:
    return not failed(judged(ended(gates, **parts), "ada"))


def test_a_study_without_gates_has_none() -> None:
    assert judged(ended(None), "ada") == ()


@given(st.tuples(BETWEEN, BETWEEN, BETWEEN).map(sorted), BETWEEN)
def test_all_of_the_interval_is_on_the_good_side(ends: list[float], bound: float) -> None:
    low, value, high = ends
    found = {"auc": Estimate(value, low, high), "brier": Estimate(value, low, high)}
    assert passes(Gates(metrics={"auc": bound}), metrics=found) == (low >= bound)
    assert passes(Gates(metrics={"brier": bound}), metrics=found) == (high <= bound)


def test_what_was_not_measured_passes_nothing() -> None:
    assert not passes(Gates(metrics={"auc": 0.0}), metrics={})
    nothing = Estimate(math.nan, math.nan, math.nan)
    assert not passes(Gates(metrics={"auc": 0.0}), metrics={"auc": nothing})


@pytest.mark.parametrize(
    ("spent", "holds"),
    [(1.999, True), (2.0, True), (2.001, False), (None, False), (math.inf, False)],
)
def test_epsilon_is_what_was_spent(spent: float | None, holds: bool) -> None:
    assert passes(Gates(epsilon=2.0), epsilon=spent) is holds


def test_a_card_is_complete_where_it_answers_everything() -> None:
    gates, agreed = Gates(card=True), Approvals(by_hand=1, by_rule=2)
    assert passes(gates, approvals=agreed)
    assert not passes(gates, approvals=Approvals())
    assert not passes(gates, approvals=agreed, metrics={})
    (card,) = judged(ended(gates, approvals=agreed), "")
    assert card.tag == ("wardround.gate.card", "FAILED: the card does not say who launched it")


def test_a_failed_gate_says_what_was_asked_for_and_what_came() -> None:
    found = {"auc": Estimate(0.81, 0.78, 0.84)}
    (gate,) = judged(ended(Gates(metrics={"auc": 0.8}), metrics=found), "ada")
    assert gate.tag == (
        "wardround.gate.auc",
        "FAILED: 0.81 (0.78 to 0.84); all of the interval must be at least 0.8",
    )
