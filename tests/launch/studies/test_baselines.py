"""Every study can say whether federating was worth it: beside it, in its summary and in MLflow."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from rich.console import Console

from launch.config import compose
from launch.config.compose import load
from launch.federations.inprocess import cohorts_of
from launch.studies import run as launched
from launch.studies.baselines import compare
from launch.studies.result_view import show_comparison
from launch.studies.run import declared_patients, run, split_plan
from protocol.errors import WardroundError
from server.outcome import Baselines
from server.tracking.tracker import Tracker
from tasks.flat_model import FlatModel
from tasks.shipped.breast_cancer import BreastCancer

TASK = BreastCancer()


class Noting(Tracker):
    """A tracker that keeps what it was told to compare with."""

    def __init__(self) -> None:
        self.told: list[Mapping[str, Mapping[str, float]]] = []

    def compared(self, baselines: Baselines) -> None:
        self.told.append(baselines.figures)


def test_baselines_stand_beside_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker = Noting()
    monkeypatch.setattr(launched, "Tracker", lambda: tracker)
    words = ["privacy=none", "rounds=4", "tracking=off", f"output={tmp_path}"]
    finished = run(load([*words, "baselines=[local,pooled]"]))
    assert [row.which for row in finished.baselines] == ["local", "federated", "pooled"]
    alone, federated, pooled = finished.baselines
    assert alone.lowest <= alone.figures["auc"] <= alone.highest
    assert alone.figures["auc"] < pooled.figures["auc"]
    assert abs(federated.figures["auc"] - finished.outcome.metrics["auc"].value) < 0.02
    kept = json.loads((finished.folder / "summary.json").read_text())["baselines"]
    assert kept == tracker.told[0]
    assert set(kept["local"]) == {"auc", "accuracy", "lowest_auc", "highest_auc"}
    show_comparison(finished.baselines, Console())
    said = capsys.readouterr().out
    assert "one hospital alone" in said
    assert f"{pooled.figures['auc']:.3f}" in said
    only = run(load([*words, "baselines=[pooled]"]))
    assert [row.which for row in only.baselines] == ["federated", "pooled"]


def test_without_them_nothing_is_compared(tmp_path: Path) -> None:
    finished = run(load(["privacy=none", "rounds=1", "tracking=off", f"output={tmp_path}"]))
    assert finished.baselines == ()
    assert "baselines" not in json.loads((finished.folder / "summary.json").read_text())


def test_a_hospital_too_small_for_its_epsilon_counts_with_the_model_it_began_with() -> None:
    config = load(["privacy=distributed", "privacy.epsilon=0.05", "rounds=4", "evaluation=off"])
    cohorts = cohorts_of(TASK, TASK.public_sites(None), split_plan(config))
    declared = declared_patients(cohorts)
    start = FlatModel(TASK, config.seed).weights()
    few = dict.fromkeys(declared, 3)
    (alone, federated) = compare(config, TASK, cohorts, few, start, ["local"])
    assert alone.untrained == len(cohorts)
    assert alone.figures["auc"] == pytest.approx(federated.figures["auc"]), (
        "both are the model that they began with"
    )


def test_early_stopping_and_robust_rules_are_not_for_one_hospital(tmp_path: Path) -> None:
    words = ["privacy=none", "rounds=4", "stop=early", "evaluation.every=1", "tracking=off"]
    finished = run(load([*words, "robust=median", "baselines=[local]", f"output={tmp_path}"]))
    assert finished.baselines[0].which == "local"


def test_only_the_closed_set_of_names_reaches_mlflow() -> None:
    Baselines({"local": {"auc": 0.5}})
    for wrong in ({"north": {"auc": 0.5}}, {"local": {"patients": 3.0}}):
        with pytest.raises(ValueError, match="not a"):
            Baselines(wrong)
    with pytest.raises(WardroundError):
        compose.load(["federation=deployment", "baselines=[local]"])
