"""A model that an older release registered in MLflow still loads, and scores as it did."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from server import released_model
from tests.golden.opened import HERE, Golden, everywhere

MODELS = everywhere("models/*.json")


def scored(release: str, name: str) -> tuple[Path, pd.DataFrame, list[float]]:
    """(the model's folder, rows, the scores that they got)."""
    told = json.loads((HERE / release / name).read_text())
    rows = pd.DataFrame(told["rows"]["data"], columns=told["rows"]["columns"])
    return (HERE / release / name).with_suffix(""), rows, told["scores"]


@pytest.mark.slow
@pytest.mark.parametrize(("release", "name"), MODELS)
def test_mlflow_loads_it_and_it_scores_as_it_did(
    release: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow.pyfunc

    model, rows, wanted = scored(release, name)
    copy = Golden(HERE / release).copy(f"models/{model.name}", tmp_path)
    loaded = mlflow.pyfunc.load_model(str(copy))
    scores = loaded.predict(rows)["score"]
    np.testing.assert_allclose(scores, wanted, rtol=0, atol=1e-5)
    assert len(set(np.round(wanted, 3))) > 3, "they tell patients apart"


@pytest.mark.parametrize(("release", "name"), MODELS)
def test_its_files_name_study_and_task(release: str, name: str) -> None:
    model, _, _ = scored(release, name)
    data = model / "data" / "data"
    reference = json.loads((data / released_model.REFERENCE).read_text())
    assert reference["task"] == model.name
    with np.load(data / released_model.WEIGHTS, allow_pickle=False) as arrays:
        assert all(np.isfinite(arrays[key]).all() for key in arrays.files)
