"""A gate opens where all of the interval is on its good side, and for nothing that is unknown."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.metrics.subgroup_figures import Difference, LevelFigures, SubgroupFigures
from protocol.outcomes.estimates import Estimate
from protocol.study.gates import Gates
from protocol.study.subgroups import MISSING, Categories
from server.outcome import Approvals, Outcome
from server.report.gates import Gate, failed, judged
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


BY = Categories(column="sex", values=("f", "m"))


def compared(difference: Estimate, **levels: Estimate | None) -> SubgroupFigures:
    """By `BY`, of which m is the largest level. levels: each one's AUC, None where not shown."""
    shown = tuple(
        LevelFigures(name, of, {} if of is None else {"auc": of})
        for name, of in ({"f": None, "m": None, MISSING: None} | levels).items()
    )
    return SubgroupFigures("sex", shown, (Difference("auc", "f", "m", difference, 1.0),))


def gap(figures: tuple[SubgroupFigures, ...]) -> Gate:
    made = study()
    evaluation = made.evaluation.model_copy(update={"subgroups": (BY,)})
    gates = Gates(gaps={"auc": 0.1})
    stated = made.model_copy(update={"gates": gates, "evaluation": evaluation})
    (found,) = judged(replace(outcome(made), study=stated, subgroups=figures), "ada")
    return found


WELL = Estimate(0.8, 0.75, 0.85)


@given(st.tuples(st.floats(-1, 1), st.floats(-1, 1), st.floats(-1, 1)).map(sorted))
def test_all_of_a_differences_interval_is_within_the_gap(ends: list[float]) -> None:
    low, value, high = ends
    found = gap((compared(Estimate(value, low, high), f=WELL, m=WELL),))
    assert found.passed == (low >= -0.1 and high <= 0.1)
    assert found.name == "gap_auc"


def test_a_gap_that_nobody_measured_is_none_that_is_small() -> None:
    small = Estimate(0.0, -0.05, 0.05)
    assert gap((compared(small, f=WELL, m=WELL),)).passed
    hidden = gap((compared(small, f=None, m=WELL),))
    assert hidden.tag[1].startswith("FAILED: all of each difference's interval within 0.1 was")
    assert "not shown is sex f" in hidden.says
    assert "not shown is any subgroup" in gap(()).says
    unknown = Estimate(math.nan, math.nan, math.nan)
    assert not gap((compared(unknown, f=WELL, m=WELL),)).passed


def test_an_audit_is_awaited_until_somebody_approves() -> None:
    (gate,) = judged(ended(Gates(audit=True)), "ada")
    assert gate.tag == (
        "wardround.gate.audit",
        "awaited: who approves shows the report of `wardround audit --study`",
    )
    assert failed((gate,)) == ()
