"""wardround's own `load` opens a registered model as it was registered or not at all, and runs no
code of it.

Kind of fault: MLflow's loader runs whatever lies in the artifact store. `mlflow.pyfunc.load_model`
imports the module that the folder's MLmodel file names, from code that the folder may bring along;
whoever can write to the store runs code at everybody who scores. wardround cannot change MLflow. It
can give a `load` of its own that holds the whole folder against the digest on the model version
before anything runs, and name it in the model card.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

import wardround
from launch.demo.mlflow_server import MlflowServer
from protocol.errors import WardroundError
from server.released_model import example
from server.tracking.tracker import MlflowTracker
from tasks import registry
from tests.server.outcomes import CONFIGURATION, outcome, study
from tests.waiting import HUNG

pytestmark = pytest.mark.slow
LEFT = "the-code-ran"
"""A file that the strange code leaves in the folder where it runs."""
CODE = f"""
from pathlib import Path

from server.released_model import _load_pyfunc

Path({LEFT!r}).touch()
"""
LOAD_WITH_MLFLOW = "import sys, mlflow; mlflow.pyfunc.load_model(sys.argv[1])"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with MlflowServer(tmp_path_factory.mktemp("mlflow")) as running:
        yield running


@pytest.fixture(scope="module")
def registered(server: MlflowServer) -> str:
    """A finished study's model in the registry, as `models:/NAME/VERSION`."""
    done = outcome(study())
    tracker = MlflowTracker(server.url, "artifact store")
    tracker.begin(done.study, CONFIGURATION, "1.2.3")
    for report in done.rounds:
        tracker.round(report)
    tracker.finish(done)
    receipt = tracker.settle(120)
    if receipt.missing:
        raise RuntimeError(f"MLflow has not got all of it: {receipt.missing}")
    return receipt.model


@pytest.fixture
def store(server: MlflowServer, registered: str, tmp_path: Path) -> Iterator[Path]:
    """The model's folder in the artifact store; what is done to it is undone."""
    (mlmodel,) = server.artifacts.rglob("MLmodel")
    folder = mlmodel.parent
    shutil.copytree(folder, tmp_path / "as it was")
    yield folder
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "as it was", folder)


def swap_weights(folder: Path) -> None:
    (path,) = folder.rglob("weights.npz")
    arrays = dict(np.load(path))
    swapped = {name: (-5 * np.abs(array)).astype(np.float32) for name, array in arrays.items()}
    np.savez(path, **swapped)


def add_code(folder: Path) -> None:
    """The MLmodel file names another loader, which lies beside it."""
    (folder / "code").mkdir()
    (folder / "code" / "strange_loader.py").write_text(CODE)
    mlmodel = yaml.safe_load((folder / "MLmodel").read_text())
    mlmodel["flavors"]["python_function"] |= {"loader_module": "strange_loader", "code": "code"}
    (folder / "MLmodel").write_text(yaml.safe_dump(mlmodel))


def wardround_load() -> Callable[[str], Any]:
    """`wardround.load`: takes a model's address as MLflow's `load_model` does, with MLflow's server
    in MLFLOW_TRACKING_URI, and gives what has `predict`."""
    return wardround.load


@pytest.fixture
def here(server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of whoever loads, whose environment says where MLflow is."""
    import mlflow

    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    mlflow.set_tracking_uri(server.url)
    yield folder
    mlflow.set_tracking_uri(None)  # type: ignore[arg-type]  # forgets it


def test_mlflows_own_loader_runs_code_of_the_store(
    registered: str, store: Path, here: Path
) -> None:
    """Nothing of ours: it shows that the changes below are what an attacker would make."""
    add_code(store)
    root = Path(__file__).parents[3]
    subprocess.run(
        [sys.executable, "-c", LOAD_WITH_MLFLOW, registered],
        cwd=here,
        env=os.environ | {"PYTHONPATH": str(root), "MLFLOW_DISABLE_TELEMETRY": "true"},
        check=True,
        capture_output=True,
        timeout=HUNG,
    )
    assert (here / LEFT).exists()


def test_a_model_as_it_was_registered_is_loaded(registered: str, here: Path) -> None:
    load = wardround_load()
    frame: pd.DataFrame = example(registry.load("breast_cancer").schema)
    assert load(registered).predict(frame)["score"].between(0, 1).all()


@pytest.mark.parametrize("change", [swap_weights, add_code])
def test_a_model_that_was_changed_in_the_store_is_refused(
    registered: str, store: Path, here: Path, change: Callable[[Path], None]
) -> None:
    load = wardround_load()
    change(store)
    try:
        load(registered)
    except (WardroundError, ValueError):
        seen = "refused"
    else:
        seen = "loaded"
    assert (seen, (here / LEFT).exists()) == ("refused", False)
