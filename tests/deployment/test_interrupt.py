"""A demo that is interrupted leaves nothing behind: no process, no port, no running run."""

from __future__ import annotations

import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.deployment.processes import Command

pytestmark = pytest.mark.timeout(1000)

WARDROUND = Path(sys.executable).with_name("wardround")
LONG = "rounds=300"
"""More rounds than any of these tests waits for."""


def runs(database: Path) -> list[str]:
    """The status of every run in MLflow's database."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        return [status for (status,) in db.execute("SELECT status FROM runs")]


def test_ctrl_c_in_the_middle_of_the_rounds(tmp_path: Path) -> None:
    words: list[str | Path] = [WARDROUND, "demo", "--folder", tmp_path / "demo", LONG]
    command = Command(words, tmp_path / "terminal")
    try:
        command.until(lambda said: "round 1/300" in said)
        assert len(command.ports) >= 2
        command.interrupt(signal.SIGINT)
        assert command.ended() == 130
        assert "Interrupted." in command.said
        assert "Traceback" not in command.said
        command.until_none_is_left()
    finally:
        command.end()
    assert runs(tmp_path / "demo" / "mlflow" / "mlflow.db") == ["KILLED"]
    events = (tmp_path / "demo" / "coordinator" / "state").glob("studies/*/events.jsonl")
    assert '"cancelled"' in next(events).read_text().splitlines()[-1]
    logs = [path.read_text() for path in (tmp_path / "demo").glob("*.log")]
    assert len(logs) == 5
    assert not any("Traceback" in log for log in logs)


def test_sigterm_while_its_processes_are_starting(tmp_path: Path) -> None:
    words: list[str | Path] = [WARDROUND, "demo", "--folder", tmp_path / "demo", LONG]
    command = Command(words, tmp_path / "terminal")
    try:
        command.until(lambda said: len(command.seen) >= 8)
        command.interrupt(signal.SIGTERM)
        assert command.ended() == 130
        assert "Interrupted." in command.said
        assert "Traceback" not in command.said
        command.until_none_is_left()
    finally:
        command.end()
