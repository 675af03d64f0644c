"""A released model of pictures scores files of pictures, and refuses what is none."""

from __future__ import annotations

import io

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
from mlflow.models import Model
from PIL import Image

from protocol.errors import Code, WardroundError
from server.released_model import ReleasedModel, example
from server.tracking.mlflow_run import _signature
from tasks import registry
from tasks.flat_model import FlatModel


def png(grey: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(grey.astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("model", ["hog", "cnn"])
def test_files_of_pictures_are_scored_and_one_that_is_none_is_named(model: str) -> None:
    task = registry.load("chest_xray", {"model": model})
    trained = FlatModel(task, 0)
    weights = trained.weights()
    trained.load(weights + np.linspace(-0.05, 0.05, len(weights), dtype=np.float32))
    released = ReleasedModel(task, trained)
    drawn = np.random.default_rng(0)
    frame = pd.DataFrame({"radiograph": [png(drawn.integers(0, 256, (40, 40))), b"", b""]})
    scores = released.predict(frame)["score"].to_numpy()
    assert scores.shape == (3,)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert scores[1] == scores[2] != scores[0]
    with pytest.raises(WardroundError, match="row 2: not a picture") as caught:
        released.predict(pd.DataFrame({"radiograph": [b"", b"DOE JANE"]}))
    assert caught.value.code is Code.MALFORMED_DATA
    assert "DOE" not in str(caught.value)


def test_mlflow_takes_the_signature_and_the_example(tmp_path: object) -> None:
    schema = registry.load("chest_xray").schema
    signature, rows = _signature(schema), example(schema)
    mlflow.pyfunc.save_model(
        f"{tmp_path}/model",
        python_model=lambda model_input: [0.5] * len(model_input),
        mlflow_model=Model(),
        signature=signature,
        input_example=rows,
        pip_requirements=[],
    )
    loaded = mlflow.pyfunc.load_model(f"{tmp_path}/model")
    assert len(loaded.predict(rows)) == 2
