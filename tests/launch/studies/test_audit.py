"""`wardround audit` on public data, and what it refuses."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from client.privacy_audit.finding import Finding
from client.privacy_audit.report import AuditReport
from launch.cli.main import app
from launch.config import compose
from launch.demo.mlflow_server import MlflowServer
from launch.studies.audit import _metrics, audit
from launch.studies.study_builder import build_study
from protocol.errors import Code, WardroundError
from protocol.models.audit_effort import RUNS
from protocol.models.audit_evidence import AuditEvidence
from protocol.release import RELEASE
from protocol.study.study import Study
from server.tracking.mlflow_run import client_of, experiment_id
from tasks import registry

SMALL = ("task=breast_cancer", "rounds=1", "privacy.epsilon=3", "tracking=off")


def test_an_audit_reports_every_attack_and_a_membership_attack(tmp_path: Path) -> None:
    words = ["audit", "--runs", "100", "--canaries", "64", "--json", "--out", str(tmp_path)]
    done = CliRunner().invoke(app, [*words, *SMALL])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report == json.loads((tmp_path / "summary.json").read_text())
    assert {one["audit"] for one in report["findings"]} == {"many runs", "one run"}
    assert {one["part"] for one in report["findings"]} == {"training", "evaluation"}
    assert 0 < report["membership"]["auc"] < 1
    assert "Which audit sees which fault" in (tmp_path / "audit.md").read_text()


def test_a_federations_own_study_is_audited_as_it_is(tmp_path: Path) -> None:
    """Its digest, so that the report is evidence for it, and for no other."""
    patients = {"east": 90, "north": 90, "south": 90}
    study = build_study(compose.load(SMALL), registry.load("breast_cancer"), patients)
    document = tmp_path / "study.json"
    document.write_bytes(study.document)
    words = ["audit", "--runs", "100", "--canaries", "64", "--json", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*words, "--study", str(document), "tracking=off"])
    assert done.exit_code == 0, done.output
    evidence = AuditEvidence.parse((tmp_path / "out" / "summary.json").read_text())
    assert evidence.objection(study, RELEASE).startswith("too few runs")
    enough = [one.model_copy(update={"runs": RUNS}) for one in evidence.findings]
    longer = evidence.model_copy(update={"findings": tuple(enough)})
    assert longer.objection(study, RELEASE) == ""
    other = study.model_copy(update={"title": "Another"})
    assert evidence.objection(other, RELEASE) == "the report is of another study"


def test_code_that_is_not_the_studys_is_not_audited_for_it(tmp_path: Path) -> None:
    patients = {"east": 90, "north": 90, "south": 90}
    study = build_study(compose.load(SMALL), registry.load("breast_cancer"), patients)
    task = study.task.model_copy(update={"source": "0" * 64})
    document = tmp_path / "study.json"
    document.write_bytes(study.model_copy(update={"task": task}).document)
    with pytest.raises(WardroundError) as raised:
        audit(compose.load(["tracking=off"]), 100, 64, _silent, tmp_path / "out", document)
    assert raised.value.code is Code.TASK_CHANGED


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with MlflowServer(tmp_path_factory.mktemp("tracked") / "mlflow") as running:
        yield running


def test_a_run_in_mlflow_carries_the_report(tmp_path: Path, server: MlflowServer) -> None:
    """Beside the files in the folder: every figure as a metric, and what was audited and how."""
    words = ["audit", "--runs", "100", "--canaries", "64", "--json", "--out", str(tmp_path / "out")]
    tracked = (*SMALL[:-1], f"tracking.uri={server.url}", "tracking.experiment=carried")
    done = CliRunner().invoke(app, [*words, *tracked])
    assert done.exit_code == 0, done.output
    client = client_of(server.url)
    (run,) = client.search_runs([experiment_id(client, "carried")])
    report = json.loads(done.stdout)
    assert run.info.status == "FINISHED"
    assert run.data.tags["wardround.audit"] == report["study"][:12]
    assert run.data.tags["wardround.study"] == report["study"]
    assert float(run.data.tags["wardround.epsilon"]) == report["epsilon"]
    assert run.data.tags["wardround.claim"] == "not contradicted"
    assert run.data.params["audit.runs"] == "100"
    assert run.data.params["planned_epsilon"] == "3.0"
    for one in report["findings"]:
        which = f"{one['audit']}_{one['part']}_{one['weights']}".replace(" ", "_")
        assert run.data.metrics[f"{which}_epsilon"] == one["epsilon"]
        assert run.data.metrics[f"{which}_at_least"] == one["bound"]
    assert run.data.metrics["membership_auc"] == report["membership"]["auc"]
    for name in ("summary.json", "audit.md", "audit.png"):
        there = Path(client.download_artifacts(run.info.run_id, f"audit/{name}", str(tmp_path)))
        assert there.read_bytes() == (tmp_path / "out" / name).read_bytes()


def test_an_audit_that_fails_leaves_a_failed_run_and_one_that_is_refused_none(
    server: MlflowServer,
) -> None:
    tracked = (*SMALL[:-1], f"tracking.uri={server.url}", "tracking.experiment=failing")
    with pytest.raises(WardroundError) as raised:
        audit(compose.load([*tracked, "federation=deployment"]), 100, 64, _silent)
    assert raised.value.code is Code.CONFIGURATION
    with pytest.raises(WardroundError) as raised:
        audit(compose.load([*tracked]), 1, 64, _silent)
    assert raised.value.code is Code.USAGE
    client = client_of(server.url)
    (run,) = client.search_runs([experiment_id(client, "failing")])
    assert run.info.status == "FAILED"


def test_a_broken_claim_is_said_even_where_the_server_takes_no_report(
    tmp_path: Path, server: MlflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report is in the folder, and the first thing said is what it found."""
    tracked = (f"tracking.uri={server.url}", "tracking.experiment=deleted")
    config, client = compose.load([*SMALL[:-1], *tracked]), client_of(server.url)

    def found(study: Study, *rest: Any) -> tuple[Finding, ...]:
        (run,) = client.search_runs([experiment_id(client, "deleted")])
        client.delete_run(run.info.run_id)  # from here on MLflow refuses to write to it
        return (Finding("many runs", "training", "honest", 1.0, 2.0, 2.0, 100, 0.9999),)

    monkeypatch.setattr("launch.studies.audit.audit_claim", found)
    saved = audit(config, 100, 64, _silent, tmp_path / "out")
    assert (tmp_path / "out" / "audit.md").exists()
    assert saved.untracked is not None
    assert saved.untracked.code is Code.TRACKING
    with pytest.raises(WardroundError) as raised:
        saved.require()
    assert raised.value.code is Code.CLAIM


def test_a_figure_that_is_no_number_is_no_metric() -> None:
    """MLflow's page of a run with one does not open, and searches find it as one with 0."""
    config = compose.load(SMALL)
    study = build_study(config, registry.load(config.task.name), {"a": 90, "b": 90, "c": 90})
    found = Finding("one run", "training", "honest", 1.0, math.inf, math.nan, 64, 0.9999)
    metrics = _metrics(AuditReport(study, (found,)))
    assert metrics["one_run_training_honest_at_least"] == math.inf
    assert "one_run_training_honest_estimate" not in metrics


def test_nothing_is_audited_where_the_server_is_away() -> None:
    config = compose.load([*SMALL[:-1], "tracking.uri=http://127.0.0.1:9"])
    with pytest.raises(WardroundError) as raised:
        audit(config, 100, 64, lambda stage, done, of: pytest.fail("it began"))
    assert raised.value.code is Code.TRACKING


def _silent(stage: str, done: int, of: int) -> None:
    pass


def test_hospitals_own_data_are_not_audited_from_afar() -> None:
    config = compose.load([*SMALL, "federation=deployment"])
    with pytest.raises(WardroundError, match="public or synthetic data only") as raised:
        audit(config, 100, 64, _silent)
    assert raised.value.code is Code.CONFIGURATION
    assert "wardround-site audit privacy" in raised.value.remedy


def test_a_task_without_public_data_is_not_audited_from_afar() -> None:
    config = compose.load([*SMALL[1:], "task.name=dicom_dose"])
    with pytest.raises(WardroundError, match="public"):
        audit(config, 100, 64, _silent)
