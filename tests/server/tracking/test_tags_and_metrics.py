"""What a table of runs shows: little, and never less epsilon than was spent."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from server.report.model_card import Background
from server.tracking.tags_and_metrics import final_metrics, opening_tags, parameters, round_metrics
from tests.server.outcomes import outcome, report, study

OF = study()


@given(st.floats(1e-4, 1e4))
def test_no_table_of_runs_shows_less_epsilon_than_was_spent(epsilon: float) -> None:
    for figures in (
        round_metrics(replace(report(1), epsilon=epsilon)),
        final_metrics(replace(outcome(OF), epsilon=epsilon)),
    ):
        shown = dict(figures)["epsilon"]
        assert epsilon <= shown <= epsilon + 0.0011
        assert shown == round(shown, 3)


def test_an_infinite_epsilon_is_no_small_one() -> None:
    assert dict(round_metrics(replace(report(1), epsilon=float("inf"))))["epsilon"] == float("inf")


def test_the_parameters_are_few_and_the_plan_s() -> None:
    known = parameters(OF)
    assert len(known) <= 17
    assert (known["mode"], known["planned_epsilon"], known["sites"]) == ("local", "2.0", "3")


def test_who_launched_a_study_is_the_user_of_its_run() -> None:
    tags = opening_tags(OF, "1", None, Background(launched_by="ada"))
    assert (tags["mlflow.user"], tags["wardround.launched_by"]) == ("ada", "ada")
    assert "mlflow.user" not in opening_tags(OF, "1", None, Background())


def test_what_matters_of_a_round_comes_first_and_what_it_cost_last() -> None:
    """MLflow's page that compares runs opens on the metric that was written first."""
    names = [name for name, _ in round_metrics(report(1))]
    assert names[0] == "auc"
    assert names[-1] == "system/seconds"
    silent = [name for name, _ in round_metrics(replace(report(1), metrics={}))]
    assert silent[:2] == ["epsilon", "participants"]
