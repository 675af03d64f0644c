"""`make demo` as the person at the keyboard sees it, from the first line to the free ports."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from protocol.privacy.epsilon_text import rounded_up
from protocol.study.study import Study
from protocol.vectors import weights_digest
from tasks import registry
from tests import forked

if TYPE_CHECKING:
    from tests.deployment.conftest import Finished

pytestmark = pytest.mark.timeout(1000)

ROOT = Path(__file__).parents[2]


def test_it_ends_well_and_shows_its_rounds_and_what_federating_was_worth(demo: Finished) -> None:
    said = demo.command.said
    assert demo.status == 0, said
    rounds = r"round +(\d+)/30 .*? s(?:, .* left)?$"
    shown = [int(n) for n in re.findall(rounds, said, re.MULTILINE)]
    assert shown[0] == 1
    assert shown[-1] == 30
    assert shown == sorted(set(shown))
    assert re.search(r"round 30/30 AUC [01]\.\d+ .*epsilon \d\.\d+", said)
    for row in ("ROC AUC", "Brier score", "one hospital alone", "federated", "all data pooled"):
        assert row in said
    assert "if secure aggregation were broken" in said
    assert "wardround mlflow" in said
    assert "Traceback" not in said
    assert "Warning" not in said


def test_the_figures_are_good_and_the_federation_beats_a_hospital_alone(demo: Finished) -> None:
    auc = {
        row: float(value)
        for row, value in re.findall(
            r"(one hospital alone|federated|all data pooled) +(\d\.\d+)", demo.command.said
        )
    }
    assert auc["federated"] > 0.95
    assert auc["federated"] > auc["one hospital alone"] - 0.02
    assert auc["all data pooled"] > 0.95


def test_summary_json_says_all(demo: Finished) -> None:
    found = demo.summary()
    assert set(found) == {
        "study",
        "task",
        "mode",
        "status",
        "model",
        "rounds",
        "metrics",
        "scores",
        "epsilon",
        "epsilon_broken",
        "uncovered",
        "sites_per_patient",
        "assumption",
        "sites",
        "seconds",
        "seconds_per_round",
        "bytes_sent",
        "bytes_received",
    }
    study = Study.parse((demo.output / "study.json").read_bytes())
    assert (found["study"], found["status"]) == (study.digest, "finished")
    assert found["model"] == "finished"
    assert demo.output.name == study.digest[:12]
    assert (found["task"], found["mode"]) == ("breast_cancer", "distributed")
    assert found["rounds"] == study.optimisation.rounds == 30
    assert found["sites"] == {"number": 4, "names": ["east", "north", "south", "west"]}
    assert 0 < found["epsilon"] <= (study.privacy.epsilon or 0)
    assert found["epsilon_broken"] > found["epsilon"]
    assert not found["uncovered"], "evaluation is noised"
    assert study.evaluation.split == "column", "the comparison scores nobody who trained"
    assert {"auc", "average_precision", "brier", "log_loss"} <= set(found["metrics"])
    for name, metric in found["metrics"].items():
        assert metric["low"] <= metric["value"] <= metric["high"], name


def test_the_weights_are_the_coordinators(demo: Finished) -> None:
    weights = np.load(demo.output / "weights.npy")
    study = Study.parse((demo.output / "study.json").read_bytes())
    assert weights.shape == (study.model.parameters,)
    (kept,) = (demo.folder / "coordinator" / "state" / "studies").glob("*/weights.f32")
    assert kept.read_bytes() == weights.astype("<f4").tobytes()
    assert kept.parent.name == study.digest


def test_no_process_is_left(demo: Finished) -> None:
    names = " ".join(demo.command.seen.values())
    for part in ("mlflow", "coordinator start", "recording_site.py", "guard_process.py"):
        assert part in names, "the demo is made of real processes"
    assert len(demo.command.ports) >= 2, "the coordinator's port and MLflow's"
    demo.command.until_none_is_left()


def test_keys_ledgers_and_data_are_for_their_owner_only(demo: Finished) -> None:
    private = ("*.pem", "*.key", "*.sqlite", "*.csv", "*.credentials.json", "*.log", "site.yaml")
    found = [path for pattern in private for path in demo.folder.rglob(pattern)]
    assert len(found) > 20
    # MLflow's log and artifacts lie in a folder of 0700.
    public = {"coordinator-ca.pem", "server.log", "thresholds.csv"}
    assert [p for p in found if p.name not in public and p.stat().st_mode & 0o077] == []
    assert demo.folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("site", ["east", "north", "south", "west"])
def test_each_hospital_has_paid_for_each_attempt(demo: Finished, site: str) -> None:
    study = Study.parse((demo.output / "study.json").read_bytes())
    database = f"file:{demo.folder / site / 'state' / 'state.sqlite'}?mode=ro"
    with closing(sqlite3.connect(database, uri=True)) as db:
        ((digest, state),) = db.execute("SELECT digest, state FROM studies").fetchall()
        paid = {n for (n,) in db.execute("SELECT attempt FROM debits WHERE part = 'train'")}
    assert (digest, state) == (study.digest, "finished")
    contributed = len(list((demo.record / site).glob("*-contribution.npy")))
    assert len(paid) >= 30
    assert contributed == len(paid) + 1, "the closing round evaluates only"


def test_mlflow_holds_the_study_its_digest_and_its_figures(demo: Finished, mlflow_url: str) -> None:
    from mlflow import MlflowClient
    from mlflow.artifacts import download_artifacts

    summary = demo.summary()
    client = MlflowClient(tracking_uri=mlflow_url, registry_uri=mlflow_url)
    experiment = client.get_experiment_by_name("wardround")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.tags["wardround.study"] == summary["study"]
    document = Path(
        download_artifacts(
            run_id=run.info.run_id, artifact_path="study.json", tracking_uri=mlflow_url
        )
    )
    assert Study.parse(document.read_bytes()).digest == summary["study"]
    assert run.data.metrics["auc"] == pytest.approx(summary["metrics"]["auc"]["value"])
    assert run.data.metrics["epsilon"] == float(rounded_up(summary["epsilon"]))
    seconds = client.get_metric_history(run.info.run_id, "system/seconds")
    assert {point.step for point in seconds} >= set(range(1, 31))
    assert run.data.params["mode"] == "distributed"
    note = run.data.tags["mlflow.note.content"]
    assert summary["study"] in note
    assert "finished" in note


def test_the_registered_model_loads_and_scores_as_reported(
    demo: Finished, mlflow_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow
    from sklearn.metrics import roc_auc_score

    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_url)
    mlflow.set_tracking_uri(mlflow_url)
    model = mlflow.pyfunc.load_model("models:/breast_cancer/1")
    schema = registry.load("breast_cancer").schema
    records = pd.concat([pd.read_csv(path) for path in (demo.folder / "data").glob("*.csv")])
    evaluated = records[records["split"] == "evaluation"]
    scored = model.predict(evaluated[[column.name for column in schema.columns]])
    scores = np.asarray(scored).reshape(-1)
    assert ((scores >= 0) & (scores <= 1)).all()
    auc = roc_auc_score(evaluated[schema.label], scores)
    assert auc > 0.95
    reported = demo.summary()["metrics"]["auc"]  # noised: within some six deviations
    assert abs(auc - reported["value"]) <= 0.02 + 1.5 * (reported["high"] - reported["low"])


def test_its_model_is_signed_by_its_coordinator(
    demo: Finished, mlflow_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_url)
    monkeypatch.delenv("WARDROUND_CREDENTIALS", raising=False)
    (tmp_path / "other.json").write_text(json.dumps({"signing_key": 64 * "a"}))
    wardround = Path(sys.executable).with_name("wardround")
    verify = [str(wardround), "models", "verify", "models:/breast_cancer/1", "--json"]
    status = {}
    for key in ("bundle.json", "demo.credentials.json", str(tmp_path / "other.json"), None):
        words = [] if key is None else ["--key", str(demo.folder / key)]
        done = forked.run([*verify, *words], tmp_path)
        status[str(key).rpartition("/")[2]] = done.returncode
        if done.returncode == 0:
            told = json.loads(done.stdout)
            weights = np.load(next((demo.folder / "outputs").glob("*/weights.npy")))
            assert told["signed"]
            assert told["study"] == demo.summary()["study"]
            assert told["weights"] == weights_digest(weights)
    assert status == {"bundle.json": 0, "demo.credentials.json": 0, "other.json": 7, "None": 4}
    kept = [path.read_text().strip() for path in demo.folder.glob("*/coordinator-signing-key.pub")]
    assert len(kept) == 4
    assert set(kept) == {json.loads((demo.folder / "bundle.json").read_text())["signing_key"]}


def test_make_demo_is_this_command() -> None:
    done = subprocess.run(
        ["make", "-n", "demo", "TASK=heart_disease"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "bin/wardround demo --task heart_disease" in done.stdout


def test_the_configuration_is_kept_with_the_result(demo: Finished) -> None:
    (kept,) = (demo.folder / "coordinator" / "state" / "studies").glob("*/configuration.json")
    configuration = json.loads(kept.read_text())
    assert configuration["task"]["name"] == "breast_cancer"
    assert "token" not in kept.read_text()
