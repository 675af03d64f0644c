"""Exact survival curves over a federation in this process, against other packages' on pooled data.

`exact_survival_references.json` holds what lifelines 0.30.3 (`KaplanMeierFitter`,
`multivariate_logrank_test`, `restricted_mean_survival_time`) and statsmodels 0.15.0 (`survdiff`
with strata) find on the pooled data, times rounded up to the ends of the joined intervals.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from client.cohorts.exact_sums import ExactContributor
from launch.cli.main import app
from launch.queries.ask import QueryResult, ask
from launch.queries.exact_analyses import exact_survival
from launch.queries.query_builder import Price, build_query, cost
from launch.queries.question import Question
from protocol.errors import Code, WardroundError
from protocol.statistics.results import Figure, ResultTable
from protocol.study.exact_analysis import EXACT_TITLE
from protocol.study.study import Study
from server.rounds.round_loop import uncovered
from tasks import registry
from tasks.schema import PATIENT

TASK, EVENT = "breast_cancer", "malignant = 1"
REFERENCES: dict[str, Any] = json.loads(
    (Path(__file__).parent / "exact_survival_references.json").read_text()
)
PATIENTS = {s: len(t[PATIENT]) for s, t in registry.load(TASK).public_sites(None).items()}
ABOUT = Question.about(TASK)
TIME = "mean_radius:6/12/14/15/16/18/20"
PRICE = Price(epsilon=100.0)


def table(of: QueryResult, title: str) -> ResultTable:
    assert of.analysis is not None
    (found,) = (one for one in of.analysis.tables if one.title.startswith(title))
    return found


def figures(of: QueryResult, title: str, column: int) -> list[Figure]:
    cells = [row.cells[column] for row in table(of, title).rows]
    assert all(isinstance(cell, Figure) for cell in cells)
    return [cell for cell in cells if isinstance(cell, Figure)]


def check_curve(answered: QueryResult, column: int, wanted: dict[str, Any]) -> None:
    curve = figures(answered, "Share without event", column)
    assert [one.value for one in curve] == pytest.approx(wanted["survival"], rel=1e-9)
    assert [one.low for one in curve] == pytest.approx(wanted["low"], rel=1e-9)
    assert [one.high for one in curve] == pytest.approx(wanted["high"], rel=1e-9)
    *_, median, mean = figures(answered, "Summary", column)
    assert median.value == wanted["median"]
    assert mean.value == pytest.approx(wanted["mean"], rel=1e-9)


def test_a_curve_is_that_of_the_pooled_patients() -> None:
    answered = ask(exact_survival(ABOUT, TIME, EVENT), PRICE)
    ends = [row.label for row in table(answered, "Share without event").rows]
    assert ends == ["14", "15", "18", "20"]  # the first two and the next but one are joined
    check_curve(answered, 0, REFERENCES["alone"][0])
    assert "minus its own" in answered.outcome.uncovered
    assert answered.analysis is not None
    assert any("joined" in note for note in answered.analysis.notes)


def test_groups_are_compared_as_on_pooled_data() -> None:
    answered = ask(exact_survival(ABOUT, TIME, EVENT, "mean_texture:9/18/21/40"), PRICE)
    for column, wanted in enumerate(REFERENCES["groups"]):
        check_curve(answered, column, wanted)
    (row,) = table(answered, "Log-rank test").rows
    statistic, freedom, p = row.cells
    assert freedom == Figure(2.0)
    assert isinstance(statistic, Figure)
    assert isinstance(p, Figure)
    assert [statistic.value, p.value] == pytest.approx(REFERENCES["log_rank"], rel=1e-9)


def test_the_test_is_within_strata() -> None:
    question = exact_survival(ABOUT, TIME, EVENT, "mean_texture > 19", "mean_smoothness > 0.1")
    (row,) = table(ask(question, PRICE), "Log-rank test within strata").rows
    statistic = row.cells[0]
    assert isinstance(statistic, Figure)
    assert statistic.value == pytest.approx(REFERENCES["stratified"][0], rel=1e-9)


def test_curves_take_one_exact_sum_and_say_so() -> None:
    study = build_query(exact_survival(ABOUT, TIME, EVENT), PATIENTS, Price(attempts=1))
    assert study.exact is not None
    assert study.exact_attempts == study.optimisation.rounds == 1
    assert EXACT_TITLE in study.title
    assert study.whole_roster
    assert "1 sums without noise" in cost(study)
    assert "minus its own" in cost(study)
    assert "iterate" not in cost(study) + uncovered(study)  # counts have none
    assert Study.parse(study.document) == study


@pytest.mark.parametrize(
    ("time", "event", "by", "says"),
    [
        (TIME, "mean_radius > 30", "", "no events"),
        ("mean_radius:6/14/30", "mean_radius < 30", "", "nobody censored"),
        (TIME, EVENT, "mean_texture > 33", r"with mean_texture > 33: yes .* no exact sum"),
    ],
)
def test_what_counts_forbid_ends_before_an_exact_sum(
    time: str, event: str, by: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def summed(self: ExactContributor, past: object) -> None:
        raise AssertionError("an exact sum was taken")

    monkeypatch.setattr(ExactContributor, "exact_sums", summed)
    with pytest.raises(WardroundError, match=says) as caught:
        ask(exact_survival(ABOUT, time, event, by), PRICE)
    assert caught.value.code is Code.TOO_FEW_PATIENTS
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("time", "event", "by", "says"),
    [
        ("nothing:4", EVENT, "", "nothing"),
        (TIME, "malignant", "", "no condition"),
        ("malignant", EVENT, "", "no time"),
        (TIME, EVENT, "mean_radius:6/14/22", "different"),
    ],
)
def test_what_cannot_be_asked(time: str, event: str, by: str, says: str) -> None:
    with pytest.raises(WardroundError, match=says) as caught:
        exact_survival(ABOUT, time, event, by)
    assert caught.value.remedy


def test_times_before_the_first_interval_are_told(tmp_path: Path) -> None:
    arguments = ["analyse", "exact-survival", "--task", TASK, "--event", EVENT]
    arguments += ["--time", "mean_radius:10/14/15/20", "--epsilon", "100"]
    arguments += ["--output", str(tmp_path), "--csv", str(tmp_path / "a.csv")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    said = " ".join(done.output.split())
    assert "time before 10 and are left out" in said
    assert "only where all sites are honest" in said
    assert "Share without event,14,all patients" in (tmp_path / "a.csv").read_text()
