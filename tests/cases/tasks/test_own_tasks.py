"""Tasks that a data scientist writes: a study of one either trains, with measures that fit its
label, or is refused with a reason that points to the slip.

Two kinds of fault. The label is binary by type (schema, scores, histograms), while most of what
hospitals predict is not. And what a task returns is not checked: metrics are printed as if all
were well, a wrong reason sends the user to the wrong place, and layers beyond those known end in a
crash.
"""

from __future__ import annotations

import pytest

from tests.cases.tasks.plugged import run

PLAIN = ("privacy=none", "rounds=20")
NOISED = ("privacy=distributed", "privacy.epsilon=3", "privacy.delta=1e-3", "rounds=3")
PRIVATE = (*NOISED, "evaluation=off")
pytestmark = [pytest.mark.usefixtures("wounds"), pytest.mark.filterwarnings("ignore")]


def test_two_classes_are_told_apart() -> None:
    ran = run("wound", *PLAIN)
    assert ran.metrics.get("auc", 0) > 0.9, ran


@pytest.mark.xfail(
    strict=True,
    raises=AssertionError,
    reason="a label of three classes trains, with a measure over all classes",
)
@pytest.mark.parametrize("words", [PLAIN, NOISED], ids=["plain", "noised"])
def test_three_classes_have_a_measure_over_all_of_them(words: tuple[str, ...]) -> None:
    ran = run("wound_class", *words)
    over_all = {"accuracy", "macro_auc", "auc_macro", "balanced_accuracy"}
    assert over_all & set(ran.metrics), ran
    assert ran.metrics.get("prevalence", 0) <= 1, ran


@pytest.mark.xfail(
    strict=True,
    raises=AssertionError,
    reason="a label that is a number trains, with an error in the label's unit",
)
@pytest.mark.parametrize("words", [PLAIN, NOISED], ids=["plain", "noised"])
def test_a_number_has_an_error_in_its_own_unit(words: tuple[str, ...]) -> None:
    ran = run("stay_days", *words)
    errors = {"rmse", "mae", "mean_absolute_error", "root_mean_squared_error"}
    assert errors & set(ran.metrics), ran


@pytest.mark.parametrize("name", ["x_bigscore", "x_nanscore"])
def test_scores_that_are_no_probabilities_are_refused_by_name(name: str) -> None:
    ran = run(name, *PLAIN)
    assert "score" in ran.error, ran
    assert "traceback" not in ran.error, ran


@pytest.mark.slow
def test_losses_that_are_no_numbers_are_refused_by_name() -> None:
    ran = run("x_nanloss", *PRIVATE)
    assert "loss" in ran.error, ran
    assert "no gradients that are one patient's" not in ran.error, ran


@pytest.mark.slow
def test_a_transformer_block_trains_or_is_refused() -> None:
    ran = run("x_attention", *PRIVATE)
    refused = "configuration" in ran.error and "internal" not in ran.error
    assert ran.outcome is not None or refused, ran
