"""A study that was interrupted goes on to the same end: real signals, a real MLflow."""

from __future__ import annotations

import json
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from launch.config import compose
from launch.demo.mlflow_server import MlflowServer
from launch.studies.resume import resume
from launch.studies.run import require_resumable, run
from launch.studies.study_builder import build_study
from protocol.errors import Code, WardroundError
from tasks import registry
from tests.deployment.processes import Command
from tests.waiting import HUNG

pytestmark = pytest.mark.timeout(1000)

WARDROUND = Path(sys.executable).with_name("wardround")
STUDY = ("task=gated", "privacy=none", "rounds=8", "local_steps=2", "evaluation.every=1")
_GATED = '''"""Breast cancer, which waits after two rounds while a file `gate` lies there."""

import time
from pathlib import Path

from torch import Tensor

from tasks.shipped.breast_cancer import BreastCancer


def two_rounds_are_noted() -> bool:
    return any(len(p.read_text().splitlines()) > 1 for p in Path("outputs").glob("*/rounds.jsonl"))


class Gated(BreastCancer):
    name = "gated"

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        while Path("gate").exists() and two_rounds_are_noted():
            time.sleep(0.05)
        return super().losses(outputs, labels)
'''


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, with a task that waits after two rounds installed."""
    plug_in = tmp_path / "plug-in"
    info = plug_in / "gated-1.dist-info"
    info.mkdir(parents=True)
    (plug_in / "gated.py").write_text(_GATED)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: gated\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[wardround.tasks]\ngated = gated:Gated\n")
    monkeypatch.delitem(sys.modules, "gated", raising=False)  # of another test, whose file is gone
    monkeypatch.syspath_prepend(str(plug_in))
    monkeypatch.setenv("PYTHONPATH", str(plug_in))
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def interrupted(here: Path, number: signal.Signals, *words: str) -> tuple[Command, Path]:
    """A study of STUDY that got a signal after its second round, and its folder."""
    (here / "gate").touch()
    command = Command([WARDROUND, "run", *STUDY, *words], here)
    try:
        kept = (here / "outputs").glob
        command.until(lambda said: any(len(lines(path)) > 1 for path in kept("*/rounds.jsonl")))
        command.interrupt(number)
        command.ended()
    finally:
        command.end()
        (here / "gate").unlink()
    (found,) = (here / "outputs").iterdir()
    return command, found


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def runs(database: Path) -> list[tuple[str, str]]:
    """(status, study digest) of every run in MLflow's database."""
    query = (
        "SELECT runs.status, tags.value FROM runs JOIN tags USING (run_uuid)"
        " WHERE tags.key = 'wardround.study'"
    )
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        return list(db.execute(query))


def test_ctrl_c_is_marked_killed_and_the_study_goes_on_in_the_same_run(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with MlflowServer(here / "mlflow") as server:
        words = (f"tracking.uri={server.url}",)
        command, folder = interrupted(here, signal.SIGINT, *words)
        assert command.ended() == 130
        assert f"wardround run --resume outputs/{folder.name}" in command.said
        assert "Traceback" not in command.said
        digest = folder.name
        assert [(s, d[:12]) for s, d in runs(here / "mlflow/mlflow.db")] == [("KILLED", digest)]
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)  # the folder holds no password
        finished = resume(str(folder), [])
        assert [(s, d[:12]) for s, d in runs(here / "mlflow/mlflow.db")] == [("FINISHED", digest)]
    assert [report.round for report in finished.outcome.rounds] == [*range(1, 9)]
    assert all("auc" in report.metrics for report in finished.outcome.rounds)
    whole = run(compose.load([*STUDY, "tracking=off", "output=whole"]))
    assert np.array_equal(finished.outcome.weights, whole.outcome.weights)
    assert finished.outcome.metrics == whole.outcome.metrics
    assert finished.outcome.bytes_sent >= sum(r.bytes_sent for r in finished.outcome.rounds)
    assert {path.name for path in folder.iterdir()} == {
        "configuration.yaml",
        "study.json",
        "summary.json",
        "weights.npy",
    }
    with pytest.raises(WardroundError, match="has finished"):
        resume(str(folder), [])


@pytest.mark.parametrize("algorithm", ["fedavg", "scaffold"])
def test_a_process_killed_outright_goes_on_without_a_round_told_twice(
    here: Path, algorithm: str
) -> None:
    words = ("tracking=off", f"algorithm={algorithm}")
    _, folder = interrupted(here, signal.SIGKILL, *words)
    told = [json.loads(line) for line in lines(folder / "rounds.jsonl")]
    with (folder / "rounds.jsonl").open("a") as file:
        file.write('{"round": 4, "att')  # a crash may cut a line
    finished = resume(str(folder), [])
    assert [report.round for report in finished.outcome.rounds] == [*range(1, 9)]
    first = finished.outcome.rounds[0]
    assert (first.seconds, first.metrics["auc"].value) == (
        told[0]["seconds"],
        told[0]["metrics"]["auc"]["value"],
    )
    whole = run(compose.load([*STUDY, *words, "output=whole"]))
    assert np.array_equal(finished.outcome.weights, whole.outcome.weights)
    assert {path.name for path in folder.iterdir()} == {
        path.name for path in whole.folder.iterdir()
    }


def test_what_cannot_go_on_says_why(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    finished = run(compose.load(["privacy=none", "rounds=1", "tracking=off", f"output={tmp_path}"]))
    moved = tmp_path / "moved"
    finished.folder.rename(moved)
    for where, overrides, code, cause in (
        (empty, (), Code.USAGE, "study.json is not there"),
        (tmp_path / "none", (), Code.USAGE, "There is no folder"),
        (moved, ("rounds=9",), Code.CONFIGURATION, "would change a study"),
        (moved, (), Code.STATE, "not named after the study"),
    ):
        with pytest.raises(WardroundError, match=cause) as refused:
            resume(str(where), list(overrides))
        assert refused.value.code is code
        assert refused.value.remedy
    (moved / "summary.json").unlink()
    again = moved.rename(tmp_path / finished.outcome.study.digest[:12])
    with pytest.raises(WardroundError, match="has not finished a round"):
        resume(str(again), [])


def test_sites_that_were_not_planned_are_named() -> None:
    config = compose.load(["privacy=none", "evaluation=off", "tracking=off"])
    planned = {f"site{number:03}": 20 for number in range(200)}
    study = build_study(config, registry.load(config.task.name), planned)
    require_resumable(study, config, planned)
    for here, told in (
        (planned | {"new": 20}, "200 sites are planned, 201 are here (new not planned)."),
        (
            {"site000": 20},
            "200 sites are planned, 1 are here (site001, site002, site003, ... missing).",
        ),
        (planned | {"site007": 30}, "(site007 with another number of patients)."),
    ):
        with pytest.raises(WardroundError) as refused:
            require_resumable(study, config, here)
        assert told in str(refused.value)
        assert "run a new study" in refused.value.remedy


@pytest.mark.timeout(3 * HUNG)
@pytest.mark.usefixtures("no_other_ray")
def test_ctrl_c_under_ray_leaves_no_process_and_the_study_goes_on(tmp_path: Path) -> None:
    words = ("privacy=none", "federation=ray", "rounds=40", "evaluation.every=0", "tracking=off")
    command = Command([WARDROUND, "run", *words], tmp_path)
    try:
        kept = (tmp_path / "outputs").glob
        command.until(lambda said: any(len(lines(path)) > 3 for path in kept("*/rounds.jsonl")))
        assert any("raylet" in line for line in command.seen.values())
        command.interrupt(signal.SIGINT)
        assert command.ended() == 130
        assert "wardround run --resume" in command.said
        assert "Traceback" not in command.said
        command.until_none_is_left()
    finally:
        command.end()
    (folder,) = (tmp_path / "outputs").iterdir()
    told = len(lines(folder / "rounds.jsonl"))
    assert 3 < told < 40
    finished = resume(str(folder), [])
    assert [report.round for report in finished.outcome.rounds] == [*range(1, 41)]
