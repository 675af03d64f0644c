"""A sweep in real worker processes: every study once, one parent in MLflow, groups over seeds."""

from __future__ import annotations

import csv
import json
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
from rich.console import Console

from launch.config import compose
from launch.demo.mlflow_server import MlflowServer
from launch.studies.sweeps.files import write
from launch.studies.sweeps.result import SweepResult, SweepRow
from launch.studies.sweeps.sweep import Sweep
from protocol.errors import Code, WardroundError
from tests.deployment.processes import Command

pytestmark = pytest.mark.timeout(1000)

WARDROUND = Path(sys.executable).with_name("wardround")
SMALL = ("privacy=none", "rounds=2")


def tags(database: Path, key: str) -> dict[str, str]:
    """Run -> the value of a tag, of every run that has it."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        query = "SELECT run_uuid, value FROM tags WHERE key = ?"
        return dict(db.execute(query, (key,)).fetchall())


def statuses(database: Path) -> dict[str, str]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        return dict(db.execute("SELECT run_uuid, status FROM runs").fetchall())


# --- the overrides ---
def test_hydra_s_grammar_of_sweeps() -> None:
    overrides = ["task=heart_disease", "privacy.epsilon=0.3,1,3,10", "seed=range(5)"]
    combinations = compose.swept(overrides)
    assert len(combinations) == 20
    assert combinations[0] == ("task=heart_disease", "privacy.epsilon=0.3", "seed=0")
    assert combinations[-1] == ("task=heart_disease", "privacy.epsilon=10", "seed=4")
    sweep = Sweep.of(overrides)
    assert sweep.keys == ("privacy.epsilon", "seed")
    assert sweep.values(sweep.combinations[7]) == {"privacy.epsilon": "1", "seed": "2"}


@pytest.mark.parametrize(
    ("overrides", "cause"),
    [
        (("rounds=3",), "Nothing is swept"),
        (("rounds=3,0",), "rounds is 0"),
        (("privacy=local,none", "privacy.epsilon=1"), "can claim no epsilon"),
        (("seed=interval(0,3)",), "is an interval"),
        (("output=a,b",), "output cannot be swept"),
        (("epsilon=1,2",), "privacy.epsilon"),
    ],
)
def test_every_study_is_checked_before_the_first_starts(
    overrides: tuple[str, ...], cause: str
) -> None:
    with pytest.raises(WardroundError, match=cause) as refused:
        Sweep.of(overrides)
    assert refused.value.code is Code.CONFIGURATION


# --- what it found ---
def rows(*of: tuple[str, str, float]) -> SweepResult:
    result = SweepResult(("-",), ("privacy.epsilon", "seed"))
    for epsilon, seed, auc in of:
        values = {"privacy.epsilon": epsilon, "seed": seed}
        result.add(SweepRow(values, study="0" * 64, metrics={"auc": auc}, epsilon=float(epsilon)))
    return result


def test_groups_are_means_and_deviations_over_seeds_in_the_order_of_numbers() -> None:
    result = rows(("10", "0", 0.9), ("2", "1", 0.8), ("2", "0", 0.6), ("10", "1", 0.9))
    small, large = result.groups()
    assert (small.values, small.studies) == ({"privacy.epsilon": "2"}, 2)
    assert small.mean["auc"] == pytest.approx(0.7)
    assert small.deviation["auc"] == pytest.approx(0.02**0.5)
    assert large.mean["auc"] == pytest.approx(0.9)
    assert large.deviation["auc"] == 0.0
    assert result.metrics()["best_mean_auc"] == pytest.approx(0.9)


def test_a_failed_study_is_in_the_files_and_in_no_group(tmp_path: Path) -> None:
    result = rows(("1", "0", 0.9))
    result.add(
        SweepRow({"privacy.epsilon": "9", "seed": "0"}, error="It diverged.", code="diverged")
    )
    files = write(result, tmp_path)
    assert set(files) == {"sweep.json", "sweep.csv", "sweep.png"}
    assert files["sweep.png"].startswith(b"\x89PNG")
    found = list(csv.DictReader((tmp_path / "sweep.csv").open()))
    assert [row["error"] for row in found] == ["", "It diverged."]
    assert len(SweepResult.load(tmp_path).groups()) == 1
    assert result.metrics()["studies_failed"] == 1


@pytest.mark.parametrize("values", [("1", "3"), ("0.1", "10"), ("fedavg", "fedadam"), ("0", "1")])
def test_a_figure_for_numbers_and_for_words(values: tuple[str, str]) -> None:
    from launch.studies.sweeps.figure import utility

    result = SweepResult(("-",), ("x", "y"))
    for value in values:
        for other in ("a", "b"):
            result.add(
                SweepRow({"x": value, "y": other}, metrics={"auc": 0.8, "average_precision": 0.7})
            )
    assert utility(result).startswith(b"\x89PNG")


# --- whole sweeps ---
def test_a_sweep_in_two_processes_under_one_parent(tmp_path: Path) -> None:
    with MlflowServer(tmp_path / "mlflow") as server:
        overrides = [*SMALL, "optimiser=fedavg,fedadam", "seed=0,1", f"tracking.uri={server.url}"]
        said = (tmp_path / "said").open("w")
        folder = Sweep.of([*overrides, f"output={tmp_path / 'out'}"]).run(2, Console(file=said))
        said.close()
    found = json.loads((folder / "sweep.json").read_text())
    assert [(g["values"], g["studies"]) for g in found["groups"]] == [
        ({"optimiser": "fedadam"}, 2),
        ({"optimiser": "fedavg"}, 2),
    ]
    studies = {row["study"] for row in found["runs"]}
    assert len(studies) == 4
    for digest in studies:
        assert (folder / digest[:12] / "summary.json").exists()
    database = tmp_path / "mlflow" / "mlflow.db"
    parents = tags(database, "mlflow.parentRunId")
    assert len(parents) == 4
    (parent,) = set(parents.values())
    assert set(tags(database, "wardround.study").values()) == studies
    assert tags(database, "wardround.sweep") == {parent: folder.name}
    assert set(statuses(database).values()) == {"FINISHED"}
    pictures = list((tmp_path / "mlflow").rglob("sweep.png"))
    assert len(pictures) == 1
    assert parent in str(pictures[0])
    said_lines = (tmp_path / "said").read_text().splitlines()
    assert sum("optimiser=" in line for line in said_lines) == 4


def test_an_interrupted_sweep_leaves_killed_runs_and_what_it_found(tmp_path: Path) -> None:
    long = ("rounds=2,100000", "privacy=none", "seed=0")
    with MlflowServer(tmp_path / "mlflow") as server:
        overrides: list[str | Path] = [WARDROUND, "run", "-m", "-j", "1", *long]
        command = Command([*overrides, f"tracking.uri={server.url}"], tmp_path / "here")
        database = tmp_path / "mlflow" / "mlflow.db"
        try:
            command.until(lambda said: len(tags(database, "wardround.study")) == 2)
            command.interrupt(signal.SIGINT)
            assert command.ended() == 130
            command.until_none_is_left()
        finally:
            command.end()
        assert "Traceback" not in command.said
        names = tags(database, "wardround.study")
        killed = statuses(database)
    assert sorted(killed[run] for run in names) == ["FINISHED", "KILLED"]
    (parent,) = set(tags(database, "mlflow.parentRunId").values())
    assert killed[parent] == "KILLED"
    (folder,) = (tmp_path / "here" / "outputs").glob("sweep-*")
    assert len(json.loads((folder / "sweep.json").read_text())["runs"]) == 1


def test_a_sweep_of_a_deployment_asks_nobody_who_is_not_there(tmp_path: Path) -> None:
    overrides: list[str | Path] = [WARDROUND, "run", "-m", "federation=deployment", "seed=0,1"]
    command = Command(overrides, tmp_path)
    assert command.ended() == 4
    assert "needs a coordinator's credentials" in command.said
