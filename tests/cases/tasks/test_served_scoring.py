"""A released model that MLflow serves over HTTP scores a patient whose numbers are all whole, in
whatever format the patient comes.

Kind of fault: the model's signature says double, and a format that keeps its columns' types (here
Parquet) brings whole numbers, which MLflow does not take for doubles.
"""

from __future__ import annotations

import asyncio
import json
from io import BytesIO
from pathlib import Path

import httpx
import pandas as pd
import pytest

from server import released_model
from server.tracking.mlflow_run import TrackedRun
from tasks import registry
from tests.server.outcomes import outcome, study

TASK = "breast_cancer"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished study's model, as MLflow keeps it."""
    home, done = tmp_path_factory.mktemp("mlflow"), outcome(study())
    run = TrackedRun(f"sqlite:///{home}/mlflow.db", "served", TASK, done.study)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)  # where MLflow without a server puts artifacts
        run.open("1")
        run.log_model(done)
    return next(home.rglob("MLmodel")).parent


def invoke(model: Path, kind: str, body: bytes) -> httpx.Response:
    """What the app that `mlflow models serve` runs answers to a request."""
    import mlflow.pyfunc
    from mlflow.pyfunc import scoring_server

    app = scoring_server.init(mlflow.pyfunc.load_model(str(model)))

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://served") as client:
            return await client.post("/invocations", content=body, headers={"content-type": kind})

    return asyncio.run(ask())


def _split(frame: pd.DataFrame) -> bytes:
    plain = {"columns": list(frame.columns), "data": frame.to_numpy().tolist()}
    return json.dumps({"dataframe_split": plain}).encode()


def _csv(frame: pd.DataFrame) -> bytes:
    return bytes(frame.to_csv(index=False).encode())


def _parquet(frame: pd.DataFrame) -> bytes:
    file = BytesIO()
    frame.to_parquet(file)
    return file.getvalue()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "text/csv",
        pytest.param(
            "application/vnd.apache.parquet",
            marks=pytest.mark.xfail(
                strict=True,
                raises=AssertionError,
                reason="a whole number is scored where the model's signature says double",
            ),
        ),
    ],
)
def test_a_patient_of_whole_numbers_is_scored(
    model: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = {"application/json": _split, "text/csv": _csv}.get(kind, _parquet)
    # Serving declares itself in the process's environment.
    monkeypatch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")
    whole = released_model.example(registry.load(TASK).schema).iloc[:1].astype("int64")
    answer = invoke(model, kind, written(whole))
    assert answer.status_code == 200, answer.text
    (scored,) = answer.json()["predictions"]
    assert 0 <= scored["score"] <= 1
