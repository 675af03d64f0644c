"""A study's tracking over a restart of the coordinator and an absence of a real MLflow server."""

import errno
import os
import time
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests

from launch.demo.local_ports import free_port
from launch.demo.mlflow_server import MlflowServer
from protocol.errors import Code, WardroundError
from server.coordinator import storage
from server.coordinator.storage import Storage
from server.tracking import backlog, study_tracking
from server.tracking.study_tracking import StudyTracking, TrackingRequest
from server.tracking.tracker import TrackingReceipt
from tests.failing_disk import FAULTS, disk
from tests.server.outcomes import CONFIGURATION, outcome, study
from tests.server.tracking.patient import be_patient
from tests.waiting import HUNG

WISH = TrackingRequest(experiment="restarts", model="kept")


def test_a_study_resumed_without_mlflow_is_delivered_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    be_patient(monkeypatch)
    done = outcome(study())
    server = MlflowServer(tmp_path / "mlflow")
    server.start()

    def back_meanwhile(_: float) -> None:
        server.start()
        server.wait()

    pauses = SimpleNamespace(monotonic=time.monotonic, sleep=back_meanwhile)
    monkeypatch.setattr(study_tracking, "time", pauses)
    try:
        uri = server.wait()
        before = StudyTracking(uri, WISH, done.study, CONFIGURATION, tmp_path / "kept")
        before.begin()
        before.round(done.rounds[0])
        assert before._tracker is not None
        assert before._tracker._courier.wait(HUNG)
        server.stop()

        after = StudyTracking(uri, WISH, done.study, CONFIGURATION, tmp_path / "kept")
        with pytest.raises(WardroundError) as away:
            after.catch_up(done.rounds[:1])
        assert away.value.code is Code.TRACKING
        for report in done.rounds[1:]:
            after.round(report)
        receipt = after.finish(done)
        assert receipt.missing == ()
        assert receipt.model == "models:/kept/1"
        run = receipt.url.rpartition("/")[2].partition("?")[0]
        history = f"{uri}/api/2.0/mlflow/metrics/get-history?run_id={run}&metric_key=system/seconds"
        answer = requests.get(history, timeout=HUNG).text
        assert answer.count('"step"') == len(done.rounds), "rounds are missing, or there twice"
    finally:
        server.stop()


def test_what_mlflow_never_took_is_kept_for_the_coordinator_to_send(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_tracking, "_SETTLE", 0.0)
    done, uri = outcome(study()), f"http://127.0.0.1:{free_port()}"
    tracking = StudyTracking(uri, WISH, done.study, CONFIGURATION, tmp_path)
    receipt = tracking.finish(done)
    assert receipt.missing
    folder = tmp_path / done.study.digest[:12]
    assert "sends it by itself" in receipt.remedy
    assert "wardround tracking" not in receipt.remedy
    assert backlog.destination(folder) == backlog.Destination(experiment="restarts", model="kept")
    kept, configuration, _ = backlog.read(folder)
    assert repr(kept.rounds) == repr(done.rounds)  # NaN is not itself
    assert (kept.weights == done.weights).all()
    assert "hunter2" not in repr(configuration)


@pytest.mark.parametrize("fault", FAULTS, ids=errno.errorcode.get)
@pytest.mark.parametrize("name", ["N", "N/study.json", "N/outcome.json", "N/destination.json"])
def test_what_mlflow_never_took_waits_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, fault: int
) -> None:
    monkeypatch.setattr(study_tracking, "_SETTLE", 0.0)
    monkeypatch.setattr(storage, "RETRY", 0.0)
    done, uri = outcome(study()), f"http://127.0.0.1:{free_port()}"
    tracking = StudyTracking(uri, WISH, done.study, CONFIGURATION, tmp_path)
    told: list[str] = []
    with ExitStack() as full:
        watched = full.enter_context(disk(tmp_path, name, fault))
        receipt = tracking.finish(done, Storage(full.close, told.append).write)
    assert watched.failures == 1
    assert told == [os.strerror(fault), ""]
    assert "sends it by itself" in receipt.remedy
    kept, _, _ = backlog.read(tmp_path / done.study.digest[:12])
    assert (kept.weights == done.weights).all()


def test_a_run_on_ones_own_machine_says_that_it_could_not_be_stored(tmp_path: Path) -> None:
    done = outcome(study())
    with disk(tmp_path, "N/outcome.json"):
        told = backlog.stored(tmp_path / "012345678912", done, done.study, {}, "0", "a command")
    assert "No space left on device" in told
    assert "a command" not in told


def test_a_coordinator_without_mlflow_tracks_nothing(tmp_path: Path) -> None:
    done = outcome(study())
    tracking = StudyTracking(None, WISH, done.study, CONFIGURATION, tmp_path)
    tracking.begin()
    tracking.round(done.rounds[0])
    assert tracking.finish(done) == TrackingReceipt()
    assert list(tmp_path.iterdir()) == []
