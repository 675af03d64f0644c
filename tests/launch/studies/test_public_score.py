"""A score that needed no data stands beside every comparison, and the gain over it is said."""

from __future__ import annotations

import io
import json
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from rich.console import Console
from sklearn.metrics import roc_auc_score

from client.data.cohort import Cohort
from launch.config import compose
from launch.federations.inprocess import cohorts_of
from launch.studies.baselines import compare, figures_of, pool
from launch.studies.result_view import show_comparison
from launch.studies.run import declared_patients, run_inprocess, split_plan
from protocol.study.study import Evaluation
from tasks import registry
from tasks.schema import PATIENT, Table
from tasks.shipped.breast_cancer import BreastCancer


class Scored(BreastCancer):
    """Larger nuclei are worse: a score from a textbook."""

    name = "scored"

    def public_score(self, table: Table) -> npt.NDArray[np.float64]:
        return np.clip(table["mean_radius"] / 30, 0, 1)


TASK = Scored()
TABLES = TASK.public_sites(None)
QUICK = ("privacy=none", "rounds=3", "tracking=off")


def test_the_comparison_has_a_row_for_the_public_score_on_the_same_patients() -> None:
    config = compose.load(list(QUICK))
    cohorts = cohorts_of(TASK, TABLES, split_plan(config))
    declared = declared_patients(cohorts)
    weights = np.zeros(31, np.float32)
    rows = compare(config, TASK, cohorts, declared, weights, which=())
    assert [row.which for row in rows] == ["public", "federated"]
    whole = pool(cohorts)
    assert whole.public is not None
    there = ~whole.in_training
    expected = roc_auc_score(whole.labels[there], whole.public[there])
    assert rows[0].figures["auc"] == pytest.approx(expected, abs=0.005)
    assert figures_of(rows).figures["public"] == rows[0].figures
    shown = io.StringIO()
    show_comparison(rows, Console(file=shown, width=100))
    assert (
        f"Gain over the public score: {rows[1].figures['auc'] - rows[0].figures['auc']:+.3f} AUC."
        in shown.getvalue()
    )


def test_a_task_without_one_has_no_such_row() -> None:
    task = BreastCancer()
    config = compose.load(list(QUICK))
    cohorts = cohorts_of(task, TABLES, split_plan(config))
    weights = np.zeros(31, np.float32)
    rows = compare(config, task, cohorts, declared_patients(cohorts), weights, which=())
    assert [row.which for row in rows] == ["federated"]
    shown = io.StringIO()
    show_comparison(rows, Console(file=shown, width=100))
    assert "Gain" not in shown.getvalue()


def test_the_public_score_is_of_the_rows_that_count() -> None:
    table = {name: values[:20].copy() for name, values in TABLES["north"].items()}
    table["malignant"][[3, 7]] = np.nan
    cohort = Cohort.build(TASK, table, lambda _: 0.0, Evaluation(release="exact"))
    kept = np.delete(np.arange(20), [3, 7])
    assert cohort.public is not None
    assert np.array_equal(cohort.public, np.clip(table["mean_radius"][kept] / 30, 0, 1))
    assert len(set(table[PATIENT][kept])) == cohort.patients


def test_the_summary_of_a_study_tells_the_gain_as_an_aggregate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugged = [EntryPoint("scored", f"{__name__}:Scored", "wardround.tasks")]
    monkeypatch.setattr(registry, "entry_points", lambda group: plugged)
    asked = [*QUICK, "task=scored", f"output={tmp_path}", "baselines=[pooled]"]
    config = compose.load(asked)
    finished = run_inprocess(config, TASK, TABLES)
    summary = json.loads((finished.folder / "summary.json").read_text())
    assert set(summary["baselines"]) == {"public", "federated", "pooled"}
    assert summary["baselines"]["federated"]["auc"] > 0.9
