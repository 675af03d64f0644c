"""Analyses from the question to the page, on public data in this process."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from launch.cli.main import app
from launch.queries import analyses
from launch.queries.ask import QueryResult, ask
from launch.queries.query_builder import Price, build_query
from launch.queries.question import Question
from protocol.errors import Code, WardroundError
from protocol.statistics.regression import fit
from protocol.statistics.results import Figure, ResultTable
from protocol.study.query import Cells
from protocol.study.study import Study
from server.answers.analysis_report import metrics
from server.coordinator.study_events import outcome_from_json, outcome_to_json
from server.report.model_card import describe
from server.tracking.summary import summary
from tasks import registry
from tasks.schema import PATIENT

TASK = "breast_cancer"
TABLES = registry.load(TASK).public_sites(None)
PATIENTS = {site: len(table[PATIENT]) for site, table in TABLES.items()}
RADIUS, TEXTURE, SMOOTHNESS, MALIGNANT = (
    np.concatenate([np.asarray(table[name], float) for table in TABLES.values()])
    for name in ("mean_radius", "mean_texture", "mean_smoothness", "malignant")
)
PRICE = Price(epsilon=40.0)
"""So much that the noise is hardly a patient."""
ABOUT = Question.about(TASK, title="A trial of plots")
QUESTIONS: dict[str, Question] = {
    "table_one": analyses.table_one(ABOUT, ("mean_radius", "mean_texture:8"), by="malignant"),
    "survival": analyses.survival(
        ABOUT, "mean_radius:6/10/14/18/22", "malignant = 1", by="mean_texture > 20"
    ),
    "regression": analyses.glm(
        ABOUT, "malignant = 1", ("mean_radius:6/13/22", "mean_texture > 20")
    ),
    "numbers": analyses.glm(
        ABOUT, "malignant = 1", ("mean_smoothness > 0.1",), numbers=("mean_texture:8",)
    ),
    "hazards": analyses.cox(
        ABOUT, "mean_radius:6/10/14/18/22", "malignant = 1", ("mean_texture > 20",)
    ),
}


@pytest.fixture(scope="module")
def answered() -> dict[str, QueryResult]:
    return {name: ask(question, PRICE) for name, question in QUESTIONS.items()}


def table(of: QueryResult, title: str) -> ResultTable:
    assert of.analysis is not None
    (found,) = (one for one in of.analysis.tables if one.title == title)
    return found


def figure(of: QueryResult, title: str, row: str, column: str) -> Figure:
    found = table(of, title)
    (cells,) = (one.cells for one in found.rows if one.label == row)
    cell = cells[found.columns.index(column)]
    assert isinstance(cell, Figure)
    return cell


def test_a_number_has_about_the_slope_of_the_pooled_patients(
    answered: dict[str, QueryResult],
) -> None:
    each = np.column_stack([np.ones(len(TEXTURE)), SMOOTHNESS > 0.1, TEXTURE])
    wanted = fit("binomial", each, np.array([1.0, 0.0]), np.eye(2)[1 - MALIGNANT.astype(int)], 0.0)
    slope = figure(answered["numbers"], "Coefficients", "mean_texture", "coefficient")
    assert slope.value == pytest.approx(wanted.coefficients[2], abs=float(wanted.errors[2]))


def test_a_table_one_is_of_the_pooled_patients(answered: dict[str, QueryResult]) -> None:
    of, title = answered["table_one"], "Table one"
    assert figure(of, title, "patients", "malignant: 1").value == pytest.approx(
        MALIGNANT.sum(), abs=3
    )
    mean = figure(of, title, "mean_radius, mean", "malignant: 0")
    clipped = np.clip(RADIUS, 6, 22)[MALIGNANT == 0]
    assert mean.value == pytest.approx(clipped.mean(), abs=0.2)
    assert figure(of, title, "mean_radius", "standardised difference").value == pytest.approx(
        (RADIUS[MALIGNANT == 1].mean() - RADIUS[MALIGNANT == 0].mean())
        / np.sqrt((RADIUS[MALIGNANT == 1].var() + RADIUS[MALIGNANT == 0].var()) / 2),
        abs=0.2,
    )


def test_a_curve_is_of_the_pooled_patients(answered: dict[str, QueryResult]) -> None:
    of = answered["survival"]
    for label, group in (
        ("mean_texture > 20", TEXTURE > 20),
        ("not (mean_texture > 20)", TEXTURE <= 20),
    ):
        share = 1.0
        for low, high in ((6, 10), (10, 14), (14, 18)):
            at_risk = group & (low <= RADIUS)
            share *= 1 - (at_risk & (high > RADIUS) & (MALIGNANT == 1)).sum() / at_risk.sum()
        found = figure(of, "Share without event", "18", label)
        assert found.value == pytest.approx(share, abs=0.03)
        assert found.low is not None
        assert found.high is not None
        assert found.low < share < found.high
    p = figure(of, "Log-rank test", "groups differ", "p")
    assert p.value is not None
    assert 0 <= p.value <= 1


def test_a_regression_is_of_the_pooled_patients(answered: dict[str, QueryResult]) -> None:
    """With one factor at a time known, the odds ratio would be that of a fourfold table; with two
    it lies near it."""
    one = ask(analyses.glm(ABOUT, "malignant = 1", ("mean_texture > 20",)), PRICE)
    odds = [
        (MALIGNANT[group] == 1).sum() / (MALIGNANT[group] == 0).sum()
        for group in (TEXTURE > 20, TEXTURE <= 20)
    ]
    found = figure(one, "Coefficients", "mean_texture > 20", "odds ratio")
    assert found.value == pytest.approx(odds[0] / odds[1], rel=0.1)
    both = figure(answered["regression"], "Coefficients", "mean_radius: 13 or more", "odds ratio")
    assert both.low is not None
    assert both.low > 1


def test_factors_between_stars_interact() -> None:
    factors = ("mean_texture > 20 * mean_smoothness > 0.1", "mean_texture > 20")
    for question in (
        analyses.glm(ABOUT, "malignant = 1", factors),
        analyses.cox(ABOUT, "mean_radius:6/14/30", "malignant = 1", factors),
    ):
        result = ask(question, PRICE).analysis
        assert result is not None
        names = [row.label for row in result.tables[0].rows if row.label != "(intercept)"]
        main = ["mean_texture > 20", "mean_smoothness > 0.1"]
        assert names == [*main, " : ".join(main)]


@pytest.mark.parametrize("name", QUESTIONS)
def test_it_is_stored_shown_and_tracked(answered: dict[str, QueryResult], name: str) -> None:
    of = answered[name]
    outcome, result = of.outcome, of.analysis
    assert result is not None
    again = outcome_from_json(
        json.loads(json.dumps(outcome_to_json(outcome))), outcome.study, (), outcome.weights
    )
    assert again.analysis == result
    page = of.page()
    assert ("<svg" in page) == (name != "table_one")
    factor = "mean_smoothness &gt; 0.1" if name == "numbers" else "mean_texture &gt; 20"
    assert (factor in page) == (name != "table_one")
    assert "mean_texture > 20" not in page
    rows = list(csv.DictReader(io.StringIO(of.csv())))
    figures = [cell for one in result.tables for row in one.rows for cell in row.cells if cell]
    assert len(rows) == len(figures)
    logged = dict(metrics(result))
    assert len(logged) >= sum(isinstance(cell, Figure) for cell in figures)
    assert "## Analysis" in describe(outcome.study, outcome)
    assert summary(outcome)["analysis"]["tables"]
    assert Study.parse(outcome.study.document) == outcome.study


@pytest.mark.parametrize("name", QUESTIONS)
def test_it_costs_what_its_tables_cost_as_a_query(name: str) -> None:
    """What is read off a sum is no release of its own, and changes neither noise nor epsilon."""
    question = QUESTIONS[name]
    study = build_query(question, PATIENTS)
    alone = build_query(
        Question(question.task, question.where, question.statistics), PATIENTS, Price()
    )
    assert study.analysis is not None
    assert study.privacy == alone.privacy
    assert study.evaluation == alone.evaluation
    assert b"analysis" not in alone.document


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: analyses.table_one(ABOUT, ()), "is of variables"),
        (lambda: analyses.table_one(ABOUT, ("malignant",), by="malignant"), "is the group"),
        (lambda: analyses.survival(ABOUT, "malignant", "malignant = 1"), "is no time"),
        (lambda: analyses.survival(ABOUT, "mean_radius", "malignant"), "is no condition"),
        (
            lambda: analyses.survival(ABOUT, "mean_radius", "malignant = 1", strata="malignant"),
            "between groups",
        ),
        (lambda: analyses.survival(ABOUT, "days", "malignant = 1"), "no column 'days'"),
        (lambda: analyses.glm(ABOUT, "malignant", ("mean_radius",)), "is no condition"),
        (lambda: analyses.glm(ABOUT, "malignant = 1", ("mean_radus",)), "no column 'mean_radus'"),
        (lambda: analyses.glm(ABOUT, "malignant = 1", ("mean_radius * ",)), "no product"),
        (
            lambda: analyses.glm(ABOUT, "malignant = 1", ("mean_radius * mean_radius",)),
            "no product",
        ),
        (lambda: analyses.glm(ABOUT, "malignant = 1", ()), "1 to 7 different factors"),
        (
            lambda: analyses.glm(ABOUT, "mean_area > 600", (), numbers=("malignant",)),
            "no number column",
        ),
        (
            lambda: analyses.glm(
                ABOUT, "malignant = 1", (), numbers=("mean_area",), weights="mean_area:4"
            ),
            "are different columns",
        ),
        (
            lambda: analyses.glm(
                ABOUT,
                "malignant = 1",
                ("mean_area", "mean_radius", "mean_texture"),
                numbers=("mean_perimeter", "mean_smoothness", "mean_compactness"),
                offset="mean_concavity",
                weights="mean_symmetry",
            ),
            "1 to 5 different factors",
        ),
        (
            lambda: analyses.glm(ABOUT, "malignant = 1", ("malignant = 1",)),
            "is outcome and factor",
        ),
        (
            lambda: analyses.glm(
                ABOUT, "malignant = 1", ("malignant",), references={"malignant": "2"}
            ),
            "has no level '2'",
        ),
        (
            lambda: analyses.glm(
                ABOUT, "malignant = 1", ("mean_radius",), references={"radius": "2"}
            ),
            "No factor is called",
        ),
        (
            lambda: analyses.glm(ABOUT, "mean_area", ("malignant",), family="poisson"),
            "range of more than 200",
        ),
    ],
)
def test_what_cannot_be_analysed_is_said_with_a_remedy(
    make: Callable[[], object], said: str
) -> None:
    with pytest.raises(WardroundError) as caught:
        make()
    assert said in str(caught.value)
    assert caught.value.remedy


def test_a_table_of_too_many_cells_is_refused() -> None:
    names = ("radius", "area", "texture")
    many = analyses.glm(ABOUT, "malignant = 1", [f"mean_{n}:12" for n in names])
    with pytest.raises(WardroundError) as caught:
        build_query(many, PATIENTS)
    assert caught.value.code is Code.CONFIGURATION
    assert "cells" in str(caught.value)


def test_an_analysis_of_other_tables_than_it_says_is_no_study() -> None:
    plain: dict[str, Any] = build_query(QUESTIONS["survival"], PATIENTS).model_dump(mode="json")
    for analysis in (
        {"kind": "survival"},
        {"kind": "table_one", "grouped": True},
        {"kind": "regression", "family": "binomial", "references": ["no"]},
        {"kind": "hazards", "references": ["no", "no"]},
        {"kind": "mixed"},
    ):
        with pytest.raises(ValidationError):
            Study.model_validate_json(json.dumps(plain | {"analysis": analysis}))
    assert Study.model_validate_json(json.dumps(plain)).analysis is not None


def test_the_label_of_a_task_of_times_is_read_as_time_and_event() -> None:
    """The trial's own days and event (generated patients): the curve of the pooled patients, and
    hazard ratios of an arm."""
    about = Question.about("trial_survival", data="generated")
    tables = about.task.public_sites(None)
    days, event = (
        np.concatenate([np.asarray(table[name], float) for table in tables.values()])
        for name in about.task.schema.label_columns
    )
    time, came = (
        f"{about.task.schema.labels[0]}:0/180/360/540",
        f"{about.task.schema.labels[1]} = 1",
    )
    curve = ask(analyses.survival(about, time, came), PRICE)
    (found,) = (one for one in curve.outcome.answers)
    assert sum(count or 0 for count in found.counts) == pytest.approx(len(days), abs=20)
    early = ask(about.count(where=f"{came} and {about.task.schema.labels[0]} < 180"), PRICE)
    assert early["patients"].counts[0] == pytest.approx(((event == 1) & (days < 180)).sum(), abs=3)
    ratios = ask(analyses.cox(about, time, came, ("arm",)), PRICE)
    assert ratios.analysis is not None
    with pytest.raises(WardroundError, match="no column 'progression'"):
        analyses.survival(about, "progression:4", came)


def test_poisson_outcomes_are_counted_one_by_one() -> None:
    question = analyses.glm(ABOUT, "mean_radius", ("malignant",), family="poisson")
    (of,) = question.statistics
    assert isinstance(of, Cells)
    assert getattr(of.axes[-1], "edges", ()) == tuple(float(edge) for edge in range(6, 24))


def test_the_command_shows_tables_and_writes_page_and_csv(tmp_path: Path) -> None:
    page, figures = tmp_path / "page.html", tmp_path / "figures.csv"
    words = [
        *("analyse", "survival", "--task", TASK, "--time", "mean_radius:4"),
        *("--event", "malignant = 1", "--by", "mean_texture > 20", "--epsilon", "5"),
        *("--output", str(tmp_path / "out"), "--html", str(page), "--csv", str(figures)),
    ]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    for said in ("Share without event", "Patients at risk", "Log-rank test", "epsilon 5.000"):
        assert said in " ".join(result.output.split())
    assert "<polyline" in page.read_text()
    assert figures.read_text().startswith("table,row,column,value,low,high,note\n")
    words = [
        *("analyse", "glm", "--task", TASK, "--outcome", "malignant = 1", "--json"),
        *("--factors", "mean_radius:2,mean_texture > 20", "--references", "mean_texture > 20=yes"),
        *("--numbers", "mean_smoothness:4", "--weights", "mean_area:2"),
        *("--output", str(tmp_path / "out")),
    ]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["analysis"]["tables"][-1]["title"] == "Patients"


def test_counts_have_a_csv_too(tmp_path: Path) -> None:
    file = tmp_path / "counts.csv"
    words = f"query histogram --task {TASK} --by malignant --csv {file} --output {tmp_path}"
    assert CliRunner().invoke(app, words).exit_code == 0
    rows = list(csv.DictReader(file.open()))
    assert [row["label"] for row in rows] == ["0", "1", "missing"]
    assert float(rows[0]["low"]) <= float(rows[0]["value"]) <= float(rows[0]["high"])
    assert rows[2]["note"] == "fewer than 10"
