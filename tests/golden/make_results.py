"""Part of `make.py`: what studies in one process leave behind, and released models in MLflow."""

from __future__ import annotations

import json
import shutil
import tempfile
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import mlflow.pyfunc
import numpy as np
import pandas as pd

from launch.config.compose import load, plain
from launch.demo.mlflow_server import MlflowServer
from launch.studies.run import run
from launch.studies.run_folder import RunFolder
from server.outcome import RoundReport
from server.tracking import backlog

_WORDS = ("contact=someone@example.org", "privacy=none", "evaluation=exact", "local_lr=0.3")
_LEFT_AT = 4
"""The round after which the study is interrupted."""


def make_results(folder: Path) -> None:
    """outputs/ (a finished and an interrupted study), undelivered/, models/."""
    _outputs(folder)
    _models(folder)


def _outputs(folder: Path) -> None:
    """The interrupted study's own end, had it not been interrupted, is kept beside it."""
    words = (
        *_WORDS,
        "tracking=off",
        "task.name=recovery",
        "algorithm=scaffold",
        "rounds=8",
        "local_steps=3",
        "evaluation.every=1",
        "evaluation.bins=16",
    )
    with tempfile.TemporaryDirectory(prefix="golden-") as scratch:
        whole = run(load([*words, "title='Left alone'", f"output={scratch}/outputs"]))
        told = RunFolder.round

        def interrupted(self: RunFolder, report: RoundReport) -> None:
            told(self, report)
            if report.round == _LEFT_AT:
                raise KeyboardInterrupt

        with patch.object(RunFolder, "round", interrupted), suppress(KeyboardInterrupt):
            run(load([*words, "title='Interrupted'", f"output={scratch}/outputs"]))
        shutil.copytree(Path(scratch) / "outputs", folder / "outputs")
    np.save(folder / "weights_uninterrupted.npy", whole.outcome.weights)
    metrics = {name: of.value for name, of in whole.outcome.metrics.items()}
    (folder / "metrics_uninterrupted.json").write_text(json.dumps(metrics, indent=1) + "\n")
    kept = folder / "undelivered" / whole.outcome.study.digest[:12]
    configuration: dict[str, Any] = plain(load([*words, "title='Left alone'"]))
    backlog.store(kept, whole.outcome, configuration, version("wardround"))


def _models(folder: Path) -> None:
    """As MLflow stores a registered model, with rows to score and the scores that they get."""
    with tempfile.TemporaryDirectory(prefix="golden-") as scratch:
        home = Path(scratch)
        with MlflowServer(home / "mlflow") as server:
            for task, rounds in (("breast_cancer", 15), ("recovery", 15)):
                words = (*_WORDS, f"task.name={task}", f"rounds={rounds}", "local_steps=5")
                where = (f"tracking.uri={server.url}", f"output={home}/outputs")
                done = run(load([*words, *where, f"title='Released for {task}'"]))
                (made,) = (home / "mlflow" / "artifacts").rglob("MLmodel")
                target = folder / "models" / task
                target.parent.mkdir(exist_ok=True)
                shutil.move(made.parent, target)
                _score(target, done.outcome.study.task.name)


def _score(model: Path, task: str) -> None:
    from tasks import registry

    table = registry.load(task).public_sites(None)["north"]
    columns = [column.name for column in registry.load(task).schema.columns]
    rows = pd.DataFrame({name: table[name][:12] for name in columns})
    scores = mlflow.pyfunc.load_model(str(model)).predict(rows)["score"]
    shown = {"rows": json.loads(rows.to_json(orient="split", index=False)), "scores": list(scores)}
    model.with_name(f"{task}.json").write_text(json.dumps(shown, indent=1) + "\n")
