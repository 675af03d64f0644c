"""MLflow that was away is settled by itself: a real server is stopped and started."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient

from launch.demo.mlflow_server import MlflowServer
from protocol.identity import Identity
from server.coordinator.operations.settlement import Settlement
from server.outcome import Outcome
from server.report.model_card import Background
from server.tracking import study_tracking
from server.tracking.study_tracking import StudyTracking, TrackingRequest
from tests.server.outcomes import CONFIGURATION, outcome, study
from tests.server.tracking.patient import be_patient
from tests.waiting import until

WISH = TrackingRequest(experiment="away", model="settled")


def runs(server: MlflowServer) -> dict[str, str]:
    """Study's title -> status of its run."""
    client = MlflowClient(server.url)
    experiment = client.get_experiment_by_name("away")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    return {(run.info.run_name or "").partition(" (")[0]: run.info.status for run in found}


def test_no_run_stays_open_though_mlflow_went_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One study finishes while MLflow is away, one fails, and one is cancelled after a restart of
    the coordinator at which MLflow was away already."""
    be_patient(monkeypatch)
    monkeypatch.setattr(study_tracking, "_SETTLE", 0.0)
    server, signer, waiting = MlflowServer(tmp_path / "mlflow"), Identity.generate(), tmp_path / "w"
    done = {title: outcome(study(title=title)) for title in ("finished", "failed", "cancelled")}

    def tracking(of: Outcome, uri: str) -> StudyTracking:
        about = Background("ada", submitted="2026-03-01", earlier="two studies before it")
        return StudyTracking(
            uri, WISH, of.study, CONFIGURATION, waiting, signer, background=lambda: about
        )

    server.start()
    try:
        uri = server.wait()
        begun = {title: tracking(of, uri) for title, of in done.items()}
        for one in begun.values():
            one.begin()
        assert set(runs(server).values()) == {"RUNNING"}
        server.stop()
        begun["cancelled"] = tracking(done["cancelled"], uri)  # the coordinator restarted
        receipts = [begun["finished"].finish(done["finished"])]
        receipts += [begun[title].finish(None) for title in ("failed", "cancelled")]
        assert all("wardround" not in receipt.remedy for receipt in receipts), "nobody has to act"
        assert len(list(waiting.iterdir())) == 3

        told: list[tuple[str, str]] = []
        with Settlement(waiting, uri, signer, lambda *what: told.append(what), pause=0.2):
            until(lambda: len(told) >= 3, "that MLflow is away")
            assert all(why for _, why in told)
            server.start()
            server.wait()
            sent = sorted((of.study.digest[:12], "") for of in done.values())
            until(lambda: sorted(one for one in told if not one[1]) == sent, "everything is sent")
        assert not list(waiting.iterdir())
        assert runs(server) == {"finished": "FINISHED", "failed": "KILLED", "cancelled": "KILLED"}
        (version,) = MlflowClient(server.url).search_model_versions("name = 'settled'")
        assert version.tags["wardround.study"] == done["finished"].study.digest
        said = (
            MlflowClient(server.url).get_run(str(version.run_id)).data.tags["mlflow.note.content"]
        )
        assert "account ada of the coordinator on 2026-03-01" in said
        assert "| composition with earlier studies | two studies before it |" in said
    finally:
        server.stop()


def test_what_an_older_release_stored_is_left_for_its_command(tmp_path: Path) -> None:
    (tmp_path / "w" / "0123456789ab").mkdir(parents=True)
    told: list[tuple[str, str]] = []
    settlement = Settlement(
        tmp_path / "w", "http://127.0.0.1:9", Identity.generate(), lambda *what: told.append(what)
    )
    settlement.settle()
    assert told == []
    assert (tmp_path / "w" / "0123456789ab").exists()
