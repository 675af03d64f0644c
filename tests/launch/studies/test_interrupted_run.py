"""Whenever Ctrl-C comes, no run is left in MLflow that says it is still running."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from launch.config import compose
from launch.demo.mlflow_server import MlflowServer
from launch.studies import run as studies
from server.tracking.delivery_queue import DeliveryQueue
from tests.server.tracking.patient import be_patient
from tests.waiting import HUNG


def test_ctrl_c_while_mlflow_opens_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_self: DeliveryQueue, _timeout: float) -> str:
        raise KeyboardInterrupt

    be_patient(monkeypatch)
    monkeypatch.setattr(studies, "_FAREWELL", HUNG)
    monkeypatch.setattr(DeliveryQueue, "wait_or_trouble", interrupted)
    with MlflowServer(tmp_path / "mlflow") as server:
        words = ["privacy=none", "rounds=1", f"output={tmp_path}", f"tracking.uri={server.url}"]
        with pytest.raises(KeyboardInterrupt):
            studies.run(compose.load(words))
        database = f"file:{tmp_path / 'mlflow' / 'mlflow.db'}?mode=ro"
        with closing(sqlite3.connect(database, uri=True)) as db:
            assert list(db.execute("SELECT status FROM runs")) == [("KILLED",)]
