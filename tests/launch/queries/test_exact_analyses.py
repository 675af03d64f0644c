"""Exact analyses over a federation in this process, against pooled fits of other packages.

`exact_references.json` holds the coefficients, standard errors, HC0 errors, deviance and AIC that
statsmodels 0.15.0 finds on the pooled data with a column for each site (`GLM`, canonical links;
`PHReg`, ties="breslow", strata=site, times rounded up to the joined intervals; its robust errors
are of its `score_residuals`), and the concordance that lifelines 0.30.0 counts site by site.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from launch.cli.main import app
from launch.queries.ask import QueryResult, ask
from launch.queries.exact_analyses import exact_cox, exact_glm
from launch.queries.formula import parse_formula
from launch.queries.query_builder import Price, build_query, cost
from launch.queries.question import Question
from protocol.errors import Code, WardroundError
from protocol.statistics.results import Figure
from protocol.study.exact_analysis import EXACT_TITLE
from protocol.study.study import Study
from tasks import registry
from tasks.schema import PATIENT

TASK = "breast_cancer"
REFERENCES: dict[str, Any] = json.loads(
    (Path(__file__).parent / "exact_references.json").read_text()
)
PATIENTS = {s: len(t[PATIENT]) for s, t in registry.load(TASK).public_sites(None).items()}
ABOUT = Question.about(TASK)
PRICE = Price(epsilon=40.0)
QUESTIONS = {
    "binomial": exact_glm(ABOUT, "malignant = 1 ~ mean_texture * mean_smoothness"),
    "gaussian": exact_glm(
        ABOUT, "mean_radius ~ mean_texture + mean_smoothness + (mean_texture > 20)", "gaussian"
    ),
    "gaussian_weights": exact_glm(
        ABOUT, "mean_radius ~ mean_texture + mean_smoothness", "gaussian", weights="mean_texture"
    ),
    "poisson": exact_glm(
        ABOUT,
        "mean_radius ~ mean_texture + mean_smoothness + offset(mean_smoothness)",
        "poisson",
    ),
    "cox": exact_cox(
        ABOUT, "mean_radius:6/12/14/16", "malignant = 1", "mean_texture + mean_smoothness"
    ),
    "cox_offset": exact_cox(
        ABOUT,
        "mean_radius:6/12/14/16",
        "malignant = 1",
        "mean_texture + mean_smoothness + offset(mean_compactness)",
    ),
}


def column(of: QueryResult, name: str) -> list[float]:
    assert of.analysis is not None
    table = of.analysis.tables[0]
    cells = [row.cells[table.columns.index(name)] for row in table.rows]
    return [cell.value for cell in cells if isinstance(cell, Figure) and cell.value is not None]


@pytest.mark.parametrize("name", QUESTIONS)
def test_an_exact_model_is_that_of_the_pooled_patients(name: str) -> None:
    answered, wanted = ask(QUESTIONS[name], PRICE), REFERENCES[name]
    assert column(answered, "coefficient") == pytest.approx(wanted["coefficients"], rel=1e-8)
    assert column(answered, "standard error") == pytest.approx(wanted["errors"], rel=1e-8)
    robust = column(answered, "robust standard error")
    assert robust == pytest.approx(wanted["robust"], rel=1e-8)
    assert answered.analysis is not None
    about = {row.label: row.cells[0] for row in answered.analysis.tables[1].rows}
    assert about["patients"] == Figure(569.0)
    if name != "gaussian_weights":
        assert isinstance(aic := about["AIC"], Figure)
        assert aic.value == pytest.approx(wanted["aic"], rel=1e-8)
    if "concordance" in wanted:
        assert isinstance(ordered := about["concordance, within sites and strata"], Figure)
        assert ordered.value == pytest.approx(wanted["concordance"], rel=1e-8)
    assert "minus its own" in answered.outcome.uncovered


def test_nothing_but_the_study_document_is_chosen() -> None:
    """No iterate, start or range can be sent; the document says all, and its title warns."""
    study = build_query(QUESTIONS["binomial"], PATIENTS, PRICE)
    assert study.exact is not None
    assert EXACT_TITLE in study.title
    assert study.whole_roster
    assert study.exact_attempts == study.exact.iterates == 12
    assert study.aggregation.least_sites == len(PATIENTS)
    assert "12 sums without noise" in cost(study)
    assert Study.parse(study.document) == study


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"title": "A quiet title"}, "title"),
        ({"query": {"least_count": 4}}, "least count"),
        ({"query": {"where": None}}, "missing values"),
        ({"exact": {"iterates": 16}}, "15"),
        ({"exact": {"coefficient_range": 1e6}}, "1000"),
        ({"aggregation": {"word_bits": 32}}, "64 bits"),
        ({"aggregation": {"least_sites": 3}}, "whole roster"),
    ],
)
def test_a_document_that_weakens_a_rule_is_no_study(changes: dict[str, Any], says: str) -> None:
    plain = json.loads(build_query(QUESTIONS["binomial"], PATIENTS, PRICE).document)
    for key, value in changes.items():
        plain[key] = plain[key] | value if isinstance(value, dict) else value
    with pytest.raises(ValueError, match=says):
        Study.model_validate_json(json.dumps(plain))


def test_what_the_counts_forbid_ends_before_an_exact_sum() -> None:
    few = exact_glm(ABOUT, "malignant = 1 ~ mean_texture + (mean_radius > 21.9)")
    with pytest.raises(WardroundError, match=r"fewer than 10 .* mean_radius > 21\.9") as caught:
        ask(few, PRICE)
    assert caught.value.code is Code.TOO_FEW_PATIENTS


@pytest.mark.parametrize(
    ("question", "says"),
    [
        (
            exact_glm(
                ABOUT,
                "mean_radius ~ mean_texture + (mean_area > 500) + (mean_area <= 500)",
                "gaussian",
            ),
            "collinearity",
        ),
        (exact_glm(ABOUT, "mean_radius ~ mean_texture", "poisson", iterates=1), "did not settle"),
        (exact_cox(ABOUT, "mean_radius:6/14/22", "mean_radius > 30", "mean_texture"), "no events"),
        (
            exact_cox(ABOUT, "mean_radius:6/14/22", "mean_radius < 30", "mean_texture"),
            "nobody censored",
        ),
    ],
)
def test_the_field_s_own_diagnoses(question: Question, says: str) -> None:
    with pytest.raises(WardroundError, match=says) as caught:
        ask(question, PRICE)
    assert caught.value.remedy


def test_separation_is_held_within_the_range() -> None:
    """All patients above an area have a radius above 14: the coefficient would be infinite."""
    question = exact_glm(ABOUT, "mean_radius > 14 ~ mean_area + mean_radius", iterates=15)
    with pytest.raises(WardroundError, match="separation") as caught:
        ask(question, PRICE)
    assert caught.value.code is Code.DIVERGED


def test_a_ridge_penalty_holds_what_separation_lets_go() -> None:
    question = exact_glm(ABOUT, "mean_radius > 14 ~ mean_area + mean_radius", ridge=1.0)
    assert all(0 < value < 10 for value in column(ask(question, PRICE), "coefficient"))


@pytest.mark.parametrize(
    ("formula", "says"),
    [
        ("malignant = 1", "outcome"),
        ("malignant = 1 ~ nothing_here", "nothing_here"),
        ("malignant = 1 ~ log(mean_radius)", "log"),
        ("malignant = 1 ~ 0 + mean_radius", "intercepts"),
        ("malignant ~ mean_radius", "no condition"),
        ("malignant = 1 ~ offset(mean_radius)", "no terms"),
    ],
)
def test_a_formula_that_cannot_be_read(formula: str, says: str) -> None:
    with pytest.raises(WardroundError, match=says) as caught:
        exact_glm(ABOUT, formula)
    assert caught.value.remedy


def test_a_formula_is_read_as_r_reads_it() -> None:
    read = parse_formula("num = 1 ~ a + b*c + (d > 1 or d < 0) + a:b + offset(e)")
    assert read.factors == ("a", "b", "c", "d > 1 or d < 0")
    assert read.terms == ((0,), (1,), (2,), (1, 2), (3,), (0, 1))
    assert (read.outcome, read.offset) == ("num = 1", "e")
    assert parse_formula("y ~ a*b*c").terms[-1] == (0, 1, 2)


def test_the_command_says_what_is_not_covered(tmp_path: Path) -> None:
    arguments = [
        "analyse",
        "exact-glm",
        "--task",
        TASK,
        "--formula",
        "malignant = 1 ~ mean_texture",
    ]
    arguments += ["--epsilon", "40", "--output", str(tmp_path), "--csv", str(tmp_path / "a.csv")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "only where all sites are honest" in " ".join(done.output.split())
    assert "Coefficients,mean_texture,odds ratio" in (tmp_path / "a.csv").read_text()


def test_strata_keep_their_intercepts() -> None:
    """With strata a site has two intercepts, and the sites eight."""
    base = "malignant = 1 ~ mean_smoothness"
    question = exact_glm(ABOUT, base, strata="mean_texture > 18")
    answered = ask(replace(question, title="Strata"), PRICE)
    assert answered.analysis is not None
    (row,) = (r for r in answered.analysis.tables[1].rows if r.label.startswith("intercepts"))
    assert row.cells == (Figure(2.0 * len(PATIENTS)),)
