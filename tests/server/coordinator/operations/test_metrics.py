"""/healthz, /metrics and prune of a coordinator."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from server.coordinator.config import CoordinatorConfig
from server.coordinator.journal import Journal
from server.coordinator.operations.history import history
from server.coordinator.operations.metrics import CoordinatorMetrics
from server.coordinator.operations.prune import STAYS, prune
from server.coordinator.service import Coordinator
from server.transport import event_log
from tests.server.coordinator.operations.test_backup import OLDER
from tests.server.hospitals import new_coordinator


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


def test_health_and_figures(tmp_path: Path) -> None:
    config = new_coordinator(tmp_path / "coordinator")
    journal = Journal(config.event_log, console=None)
    with Coordinator(config, journal) as coordinator, CoordinatorMetrics(0, coordinator) as served:
        code, body = get(served.port, "/healthz")
        assert (code, json.loads(body)["failing"]) == (200, [])
        code, text = get(served.port, "/metrics")
        assert code == 200
        assert 'wardround_coordinator_studies{state="running"} 0' in text
        assert "wardround_coordinator_certificate_days" in text
        config.event_log.unlink()
        config.event_log.mkdir()  # the log cannot be written any more
        journal.write("anything")
        code, body = get(served.port, "/healthz")
        assert (code, json.loads(body)["failing"]) == (503, ["event log"])
        assert "wardround_coordinator_failing 1" in get(served.port, "/metrics")[1]


def test_the_event_log_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log, "_LARGEST", 200)
    monkeypatch.setattr(event_log, "_KEPT", 2)
    log = event_log.EventLog(tmp_path / "events.log")
    for number in range(40):
        log.write("event", number=number)
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["events.log", "events.log.1", "events.log.2"]
    lines = [line for file in reversed(files) for line in file.read_text().splitlines()]
    numbers = [json.loads(line)["number"] for line in lines]
    assert numbers == list(range(numbers[0], 40)), "the newest, none of them twice"
    assert all(file.stat().st_size < 300 for file in files)


def test_prune_leaves_what_says_what_was_spent(tmp_path: Path) -> None:
    shutil.copytree(OLDER, tmp_path / "coordinator")
    config = CoordinatorConfig.load(tmp_path / "coordinator")
    folders = sorted((config.state / "studies").iterdir())
    before = {f.name: sorted(p.name for p in f.iterdir()) for f in folders}
    told = json.loads(json.loads(history(config, "north"))["text"])["studies"]
    assert prune(config, timedelta(days=36500)) == []
    pruned = {gone.study for gone in prune(config, timedelta(0))}
    assert pruned
    assert prune(config, timedelta(0)) == []
    for folder in folders:
        kept = sorted(p.name for p in folder.iterdir())
        if folder.name in pruned:
            assert kept == [name for name in before[folder.name] if name in STAYS]
        else:
            assert kept == before[folder.name]
        last = json.loads((folder / "events.jsonl").read_text().splitlines()[-1])
        assert folder.name not in pruned or last["type"] in {"finished", "cancelled"}
    assert json.loads(json.loads(history(config, "north"))["text"])["studies"] == told
