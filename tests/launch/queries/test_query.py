"""Questions, their price, and their answers on public data in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom
from typer.testing import CliRunner

from launch.cli.main import app
from launch.federations.inprocess import InProcessFederation
from launch.queries import presets
from launch.queries.drift import histograms_of
from launch.queries.query_builder import Price, build_query, cost
from launch.queries.question import Question
from launch.queries.result_view import bar
from protocol.errors import Code, WardroundError
from protocol.metrics.query_answers import answers
from protocol.privacy.query_noise import half_width, query_and_event, share
from protocol.statistics.results import Figure
from protocol.study.query import Bins, Categories, Cells, ConditionAxis
from protocol.study.study import Study
from server.answers.query_page import page
from server.answers.query_report import captions, markdown, metrics, plain
from server.coordinator.study_events import outcome_from_json, outcome_to_json
from server.outcome import Outcome
from server.rounds.listener import Listeners
from server.tracking.summary import write_summary
from tasks import registry
from tasks.schema import PATIENT

TASK = "breast_cancer"
TABLES = registry.load(TASK).public_sites(None)
PATIENTS = {site: len(table[PATIENT]) for site, table in TABLES.items()}
TOTAL = sum(PATIENTS.values())


def run(study: Study) -> Outcome:
    return InProcessFederation({}, TABLES).run(study, registry.load(TASK), Listeners())


def test_axes_are_bins_edges_categories_or_conditions() -> None:
    question = Question.about(TASK)
    five = question.axis("mean_radius")
    assert isinstance(five, Bins)
    assert len(five.edges) == 6
    assert isinstance(eight := question.axis("mean_radius:8"), Bins)
    assert len(eight.edges) == 9
    assert isinstance(edged := question.axis("mean_radius:10/15/20"), Bins)
    assert edged.edges == (10, 15, 20)
    assert isinstance(question.axis("malignant"), Categories)
    assert isinstance(question.axis("mean_radius > 15"), ConditionAxis)


@pytest.mark.parametrize(
    ("axis", "code"),
    [
        ("mean_radus", Code.REFUSED_STUDY),
        ("mean_radius:0", Code.CONFIGURATION),
        ("mean_radius:many", Code.CONFIGURATION),
        ("mean_radius:20/10", Code.CONFIGURATION),
        ("malignant:3", Code.CONFIGURATION),
        ("mean_radius:100000000", Code.CONFIGURATION),
    ],
)
def test_what_cannot_be_counted_by_is_explained(axis: str, code: Code) -> None:
    with pytest.raises(WardroundError) as caught:
        Question.about(TASK).histogram(axis)
    assert caught.value.code is code


def test_a_mean_of_categories_and_an_empty_question_are_refused() -> None:
    with pytest.raises(WardroundError):
        Question.about(TASK).mean("malignant")
    with pytest.raises(WardroundError) as caught:
        build_query(Question.about(TASK), PATIENTS)
    assert caught.value.code is Code.CONFIGURATION
    with pytest.raises(WardroundError) as caught:
        build_query(Question.about(TASK).count(), {"a": 100, "b": 100})
    assert caught.value.code is Code.TOO_FEW_SITES


def test_the_noise_is_the_least_that_its_epsilon_takes() -> None:
    one = build_query(Question.about(TASK).count(), PATIENTS)
    assert one.query is not None
    assert (one.query.mechanism, one.evaluation.noise_multiplier) == ("laplace", 2.0)
    assert one.privacy.epsilon == 0.5
    many = build_query(presets.quality(TASK), PATIENTS)
    assert many.query is not None
    assert many.query.mechanism == "skellam"
    forced = build_query(presets.quality(TASK), PATIENTS, Price(mechanism="laplace"))
    assert half_width(many, 4) < half_width(forced, 4)
    assert "within 7 of the truth" in cost(one)
    assert "1.550 if secure aggregation were broken" in cost(one)


@pytest.mark.parametrize("price", [{"epsilon": -1.0}, {"delta": 0.7}, {"epsilon": 1e9}])
def test_a_price_that_makes_no_sense_is_refused(price: dict[str, Any]) -> None:
    with pytest.raises(WardroundError) as caught:
        build_query(Question.about(TASK).count(), PATIENTS, Price(**price))
    assert caught.value.code in (Code.CONFIGURATION, Code.EPSILON_UNREACHABLE)


@pytest.mark.parametrize("mechanism", ["laplace", "skellam"])
def test_figures_are_the_pooled_ones_within_their_noise(mechanism: Any) -> None:
    """With so much epsilon that the noise is hardly a patient, the answers are the truth."""
    column, pooled = "mean_radius", np.concatenate([t["mean_radius"] for t in TABLES.values()])
    question = Question.about(TASK, least_count=0)
    question = question.count().histogram(f"{column}:6/10/14/18/22").table("malignant")
    question = question.mean(column).quantiles(f"{column}:64")
    price = Price(epsilon=45.0, mechanism=mechanism)
    outcome = run(build_query(question, PATIENTS, price))
    found = {answer.name: answer for answer in outcome.answers}
    assert found["patients"].counts[0] == pytest.approx(TOTAL, abs=3)
    clipped = np.clip(pooled, 6, 21.999)
    expected = [*np.histogram(clipped, bins=(6, 10, 14, 18, 22))[0], 0]
    assert np.array(found[column].counts) == pytest.approx(expected, abs=3)
    mean = found[f"mean of {column}"].derived["mean"]
    assert mean.value == pytest.approx(np.clip(pooled, 6, 22).mean(), abs=0.2)
    assert mean.low <= mean.value <= mean.high
    median = found[f"quantiles of {column}"].derived["q50"]
    assert median.value == pytest.approx(np.median(pooled), abs=0.3)


def test_95_percent_intervals_hold_the_truth_that_often() -> None:
    """Over 600 counts of a true 40: 570 are expected inside, at least, and not all."""
    study = build_query(Question.about(TASK, least_count=0).count(), PATIENTS)
    inside = 0
    for _ in range(600):
        total = 40 + np.sum([share(study, 4) for _ in range(4)], axis=0)
        (answer,) = answers(study, total, 4)
        assert answer.counts[0] is not None
        inside += abs(answer.counts[0] - 40) <= answer.half_width
    assert binom.cdf(inside, 600, 0.95) > 1e-7
    assert inside < 600


def test_below_the_least_count_nothing_is_shown() -> None:
    question = Question.about(TASK, where="mean_radius > 1000", least_count=50)
    question = question.count().mean("mean_radius").quantiles("mean_radius")
    outcome = run(build_query(question, PATIENTS, Price(epsilon=5.0)))
    assert outcome.answers[0].counts == (None,)
    assert outcome.answers[1].derived == {}
    assert outcome.answers[2].derived == {}
    assert plain(outcome)[0]["rows"] == [{"label": ["patients"], "hidden": "fewer than 50"}]
    assert "fewer than 50" in markdown(outcome)
    assert "fewer than 50" in page(outcome)
    assert "| mean | too few patients" in markdown(outcome)
    assert [row["label"] for row in plain(outcome)[2]["rows"]] == [["q25"], ["q50"], ["q75"]]
    assert list(metrics(outcome)) == []


@pytest.mark.parametrize(("each", "supported"), [(0, False), (1, False), (5, True)])
def test_noise_over_many_empty_bins_has_no_median(each: int, supported: bool) -> None:
    """30 bins of 1 sum to 30, over the least count of 10; so does their noise alone at times."""
    study = build_query(Question.about(TASK, least_count=10).quantiles("mean_radius:30"), PATIENTS)
    _, event = query_and_event(study)
    (answer,) = answers(study, np.full(31, each * round(event.scale), np.int64), len(PATIENTS))
    assert bool(answer.derived) is supported


def test_an_outcome_goes_through_its_events_and_holds_answers_to_its_own_questions() -> None:
    outcome = run(build_query(Question.about(TASK).count().mean("mean_radius"), PATIENTS))
    content = json.loads(json.dumps(outcome_to_json(outcome)))
    again = outcome_from_json(content, outcome.study, (), outcome.weights)
    assert again.answers == outcome.answers
    assert outcome.epsilon == pytest.approx(0.5, rel=1e-3)
    assert outcome.uncovered == ""
    other = build_query(Question.about(TASK).mean("mean_area"), PATIENTS)
    with pytest.raises(WardroundError) as caught:
        outcome_from_json(content, other, (), outcome.weights)
    assert caught.value.code is Code.MESSAGE


def test_names_that_a_stranger_chose_stay_text_on_the_page_and_in_mlflow() -> None:
    name = "<script>alert(1)</script> | `x` "
    question = Question.about(TASK, title="a & b").of(Cells(name=name))
    outcome = run(build_query(question, PATIENTS))
    assert "<script" not in page(outcome)
    assert "<b>" not in page(outcome)
    assert "<script" not in markdown(outcome)
    names = [name for name, _ in metrics(outcome)]
    assert names[0] == "script_alert_1_script_x/patients"


def test_columns_are_explained_with_their_units() -> None:
    question = Question.about("heart_disease").table("age", "sex").mean("chol").count()
    assert captions(build_query(question, dict.fromkeys("abc", 200))) == [
        "age, in a; sex: 0 female, 1 male",
        "chol: serum cholesterol, in mg/dL",
        "",
    ]


def test_ready_made_questions_ask_what_they_say() -> None:
    study = build_query(
        presets.feasibility("heart_disease", "chol > 200"), dict.fromkeys("abc", 200)
    )
    assert study.query is not None
    assert [s.name for s in study.query.statistics] == ["patients", "age by sex"]
    quality = presets.quality("heart_disease")
    assert {s.name for s in quality.statistics} == {
        *(column.name for column in quality.task.schema.columns),
        "num",
    }
    dose = build_query(presets.dose(), dict.fromkeys("abc", 200), Price(delta=1e-3))
    assert dose.query is not None
    assert dose.query.columns == ("ctdi_vol", "dlp", "exposure", "region", "vendor")


def test_the_command_shows_bars_and_says_what_it_costs(tmp_path: Path) -> None:
    words = f"query histogram --task {TASK} --by malignant --output {tmp_path}"
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.split())
    assert "It costs each patient there epsilon 0.500" in said
    assert "█" in said
    assert "epsilon 0.500 spent at delta 1e-05" in said
    (folder,) = tmp_path.iterdir()
    assert Study.parse((folder / "study.json").read_bytes()).query is not None


def test_a_dry_run_asks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a site was asked")

    monkeypatch.setattr(InProcessFederation, "run", never)
    words = f"query count --task {TASK} --dry-run --json --output {tmp_path}"
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["study"]["optimisation"]["rounds"] == 0
    assert list(tmp_path.iterdir()) == []


def test_a_site_without_records_for_queries_answers_none() -> None:
    study = build_query(Question.about(TASK).count(), PATIENTS)
    nobody: dict[str, Any] = dict.fromkeys(PATIENTS)
    with pytest.raises(WardroundError) as caught:
        InProcessFederation(nobody, {}).run(study, registry.load(TASK), Listeners())
    assert caught.value.code is Code.REFUSED_POLICY


def test_bars_are_as_long_as_their_figures() -> None:
    assert bar(30, 30) == "█" * 30
    assert bar(0, 30) == ""
    assert bar(-5, 30) == ""
    assert bar(1.5, 30) == "█▌"
    assert bar(1, 0) == ""


def test_at_how_many_sites_a_column_differs(tmp_path: Path) -> None:
    """One site of three measures a column in another unit: it says so, the others do not."""
    names = list(TABLES)[:3]
    tables = {name: dict(TABLES[name]) for name in names}
    tables[names[0]]["mean_radius"] = tables[names[0]]["mean_radius"] * 100
    patients = {name: PATIENTS[name] for name in names}

    def answered(question: Question) -> Outcome:
        study = build_query(question, patients, Price(epsilon=20.0))
        return InProcessFederation({}, tables).run(study, registry.load(TASK), Listeners())

    first = answered(presets.quality(TASK, columns=("mean_radius", "mean_texture")))
    folder = tmp_path / "first"
    folder.mkdir()
    (folder / "study.json").write_bytes(first.study.document)
    write_summary(first, folder / "summary.json")
    references = histograms_of(folder)
    question = presets.sites_that_differ(TASK, references)
    outcome = answered(question)
    found = {answer.name: answer for answer in outcome.answers}
    assert found["mean_radius"].counts[0] in (1.0, 2.0, 3.0)  # all differ from what one has moved
    assert found["mean_texture"].counts == (0.0, 3.0, 0.0)
    assert found["mean_texture"].half_width == 0.0
    assert [sum(n or 0 for n in answer.counts) for answer in outcome.answers] == [3, 3]
    assert "sites that do not differ" in markdown(outcome)
    assert outcome.analysis is not None
    (table,) = outcome.analysis.tables
    moved, alike = ({**dict(zip(table.columns, row.cells, strict=True))} for row in table.rows)
    assert (moved["verdict"], alike["verdict"]) == ("DIFFER", "no sign of difference")
    index = moved["index between hospitals"]
    assert isinstance(index, Figure)
    assert index.low is not None
    assert index.low > 0.25
    assert moved["hospitals compared"] == Figure(3.0)
    assert moved["hospitals that differ"] == Figure(found["mean_radius"].counts[0])
    assert "each site's own counts will be within" in cost(outcome.study)
    with pytest.raises(WardroundError) as caught:
        presets.sites_that_differ("heart_disease", references)
    assert caught.value.code is Code.CONFIGURATION


def test_where_sites_are_compared_the_references_say_of_what(tmp_path: Path) -> None:
    command = [
        "query",
        "quality",
        "--task",
        TASK,
        "--reference",
        str(tmp_path),
        "--by",
        "malignant",
    ]
    refused = CliRunner().invoke(app, command)
    assert refused.exit_code != 0
    assert isinstance(refused.exception, WardroundError | SystemExit)
