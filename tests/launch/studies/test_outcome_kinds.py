"""A study of each kind of outcome, from its configuration to what its model predicts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from launch.config.compose import load
from launch.federations.inprocess import cohorts_of
from launch.studies.baselines import figures_of
from launch.studies.result_view import show
from launch.studies.run import run, split_plan
from protocol.errors import WardroundError
from protocol.outcomes.multiclass import Multiclass
from server import released_model
from server.report.figures import figures
from server.report.model_card import card, describe_model
from server.tracking.tags_and_metrics import final_metrics
from tasks import contract, registry
from tasks.shipped.diabetes_progression import DiabetesProgression
from tasks.shipped.digits import Digits
from tests.tasks import several_views
from tests.tasks.several_views import SeveralViews

PLAIN = ("privacy=none", "tracking=off", "local_lr=1")
KINDS = {
    "diabetes_progression": ("r2", 0.3, "mean absolute error", ["prediction"]),
    "digits": ("accuracy", 0.8, "ROC AUC, label 9", [f"score_{k}" for k in range(10)]),
    "findings": ("macro_auc", 0.8, "ROC AUC, label 3", [f"score_{k}" for k in range(4)]),
    "trial_survival": (
        "concordance",
        0.6,
        "integrated Brier score",
        [f"survival_{k}" for k in range(1, 7)],
    ),
}
"""Those whose data is always there."""
GENERATED = {"trial_survival": ("task.options.data=generated",)}


@pytest.mark.parametrize("task", KINDS)
def test_a_study_goes_all_the_way(
    task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metric, least, said, columns = KINDS[task]
    own = GENERATED.get(task, ())
    contract.check(registry.load(task))
    words = [f"task={task}", *own, *PLAIN, "rounds=8", f"output={tmp_path}", "baselines=[pooled]"]
    finished = run(load(words))
    outcome = finished.outcome
    assert outcome.metrics[metric].value > least
    federated, pooled = finished.baselines
    assert federated.figures == pytest.approx(pooled.figures, abs=0.1, rel=0.1)
    assert list(federated.figures) == list(outcome.study.outcome.compared)
    assert set(figures_of(finished.baselines).figures) == {"federated", "pooled"}
    show(finished, Console(width=200))
    shown = capsys.readouterr().out
    assert said in shown
    assert "all data pooled" in shown
    tracked, first = dict(final_metrics(outcome)), outcome.study.outcome.compared[0]
    assert tracked[metric] == outcome.metrics[metric].value
    assert tracked[f"{first}_low"] == outcome.metrics[first].low
    assert {"learning_curve.png", "calibration.png"} <= set(figures(outcome))
    summary = json.loads((finished.folder / "summary.json").read_text())
    assert summary["metrics"][metric]["value"] == outcome.metrics[metric].value
    released_model.write(tmp_path / "model", outcome.study, outcome.weights)
    model, installed = (
        released_model.load(tmp_path / "model"),
        registry.load(task, finished.outcome.study.task.options),
    )
    frame = pd.DataFrame(released_model.example(installed.schema))
    predicted = model.predict(frame)
    assert list(predicted.columns) == columns
    assert np.isfinite(predicted.to_numpy()).all()
    card = describe_model(outcome, installed.schema)
    assert f"`{columns[0]}`" in card
    assert f"`{installed.schema.label}`" in card


@pytest.mark.slow
def test_a_study_of_masks_goes_all_the_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["task=lung_fields", *PLAIN, "local_steps=4", "privacy.sampling_rate=0.01", "rounds=1"]
    noised = ["evaluation=noised", "privacy.epsilon=8", f"output={tmp_path}"]
    finished = run(load([*words, *noised]))
    outcome, task = finished.outcome, registry.load("lung_fields")
    assert set(outcome.metrics) <= set(task.outcome.metrics)
    assert all(0 <= of.low <= of.value <= of.high <= 1 for of in outcome.metrics.values())
    show(finished, Console(width=200))
    assert "Dice, class 2" in capsys.readouterr().out
    assert dict(final_metrics(outcome))["dice"] == outcome.metrics["dice"].value
    assert set(figures(outcome)) == {"learning_curve.png"}
    released_model.write(tmp_path / "model", outcome.study, outcome.weights)
    model = released_model.load(tmp_path / "model")
    frame = pd.DataFrame(released_model.example(task.schema))
    predicted, masks = model.predict(frame), model.masks(frame)
    assert masks.shape == (len(frame), 32, 32)
    assert list(predicted.columns) == ["area_1", "area_2"]
    assert predicted["area_2"].tolist() == (masks == 2).mean(axis=(1, 2)).tolist()
    card = describe_model(outcome, task.schema)
    assert "`area_1`" in card
    assert "| dice_2 |" in card
    assert "`lungs`" in card


@pytest.mark.parametrize(
    "privacy",
    [
        ("privacy=none", "local_steps=4", "local_lr=0.3", "rounds=8"),
        ("privacy=local", "privacy.epsilon=8", "privacy.delta=1e-3", "rounds=2"),
        ("privacy=distributed", "privacy.epsilon=8", "privacy.delta=1e-3", "rounds=2"),
    ],
    ids=lambda words: words[0],
)
def test_a_study_of_several_pictures_a_patient_goes_all_the_way(
    tmp_path: Path, privacy: tuple[str, ...]
) -> None:
    task = SeveralViews(pooling="max")
    own = (f"task={several_views.__file__}", "task.options.pooling=max", "tracking=off")
    finished = run(load([*own, *privacy, f"output={tmp_path}"]))
    outcome = finished.outcome
    least = 0.7 if outcome.study.privacy.mode == "none" else 0.0
    assert least <= outcome.metrics["auc"].value <= 1
    registry.register(SeveralViews)
    assert "up to 3 pictures of a patient, pooled by their max" in card(outcome.study)
    released_model.write(tmp_path / "model", outcome.study, outcome.weights)
    model = released_model.load(tmp_path / "model")
    frame = pd.DataFrame(released_model.example(task.schema))
    first, twice = frame["views"][0], [*frame["views"][0]] * 2
    scores = model.predict(pd.DataFrame({"views": [first, twice, []]}))["score"]
    assert scores[0] == pytest.approx(scores[1])
    with pytest.raises(WardroundError, match="row 2: more than 3 pictures"):
        model.predict(pd.DataFrame({"views": [first, twice * 2]}))


def test_a_confusion_matrix_is_shown_and_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished = run(load(["task=digits", *PLAIN, "rounds=2", f"output={tmp_path}"]))
    matrix = np.array(finished.outcome.confusion)
    assert matrix.shape == (10, 10)
    diagonal = np.trace(matrix) / matrix.sum()
    assert diagonal == pytest.approx(finished.outcome.metrics["accuracy"].value)
    show(finished, Console(width=200))
    assert "said 9" in capsys.readouterr().out
    assert "confusion.png" in figures(finished.outcome)
    kept = type(finished.outcome).of_figures(
        finished.outcome.figures(), finished.outcome.study, finished.outcome.weights, ()
    )
    assert kept.confusion == finished.outcome.confusion


def test_a_label_outside_the_kind_is_named_and_not_quoted() -> None:
    plan, task = split_plan(load(["task=digits"])), Digits()
    tables = dict(task.public_sites())
    wrong = dict(tables["first"])
    wrong["digit"] = np.where(np.arange(len(wrong["digit"])) == 4, 77.0, wrong["digit"])
    with pytest.raises(WardroundError, match="digit, row 5 of the view: none of 0 to 9") as caught:
        cohorts_of(task, {**tables, "first": wrong}, plan)
    assert "77" not in str(caught.value)


def test_a_site_hears_of_a_class_that_it_never_sees_and_of_numbers_cut_off() -> None:
    plan, task = split_plan(load(["task=digits"])), Digits()
    tables = dict(task.public_sites())
    few = {name: column[tables["first"]["digit"] != 3] for name, column in tables["first"].items()}
    assert any("label 3" in note for note in cohorts_of(task, {"first": few}, plan)["first"].notes)
    other = DiabetesProgression()
    tables = dict(other.public_sites())
    large = {**tables["clinic"], "progression": tables["clinic"]["progression"] * 3}
    cohort = cohorts_of(other, {"clinic": large}, plan)["clinic"]
    assert any("beyond the public range 0 to 360" in note for note in cohort.notes)
    assert np.asarray(cohort.labels).max() == 360


def test_follow_up_in_the_wrong_order_of_columns_is_named() -> None:
    task = registry.load("trial_survival", {"data": "generated"})
    plan = split_plan(load(["task=trial_survival"]))
    east = dict(task.public_sites(None)["east"])
    turned = {**east, "days": east["event"], "event": east["days"]}
    with pytest.raises(WardroundError, match="days and event, row 1 of the view: a time below 0"):
        cohorts_of(task, {"east": turned}, plan)


def test_rows_without_any_finding_are_set_aside_and_those_with_one_stay() -> None:
    task = registry.load("findings")
    coast = dict(task.public_sites(None)["coast"])
    silent = {**coast}
    for column in task.schema.label_columns:
        silent[column] = coast[column].copy()
        silent[column][:7] = np.nan
    silent["effusion"][0] = 1.0
    cohort = cohorts_of(task, {"coast": silent}, split_plan(load(["task=findings"])))["coast"]
    said = ~np.isnan(np.stack([silent[name] for name in task.schema.label_columns])).all(axis=0)
    assert len(cohort.labels) == said.sum() == len(coast["effusion"]) - (~said).sum()
    assert any("without a label were set aside" in note for note in cohort.notes)


def test_more_classes_cost_more_noise() -> None:
    """The same epsilon for what a patient changes: more of it where there are more classes."""
    three, ten = Multiclass(classes=3), Multiclass(classes=10)
    assert three.sensitivity == pytest.approx(7**0.5)
    assert ten.sensitivity == pytest.approx(19**0.5)
