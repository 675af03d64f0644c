"""The released model as files: plain float32 weights and the name of an installed task, no code.

MLflow's pyfunc loads it by this module's name (`_load_pyfunc`), so nothing is pickled: a pickled
torch module could carry what training left on it (Opacus keeps per-sample gradients in
`p.grad_sample`). Whoever scores needs wardround installed, with the same task.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from protocol.document import digest
from protocol.errors import Code, WardroundError
from protocol.study.study import Study
from protocol.vectors import Vector, pack, unpack
from tasks import registry
from tasks.schema import Column, Image, Schema

if TYPE_CHECKING:
    import pandas as pd

    from tasks.base import Task
    from tasks.flat_model import FlatModel

WEIGHTS = "weights.npz"
FROZEN = "frozen.npz"
REFERENCE = "model.json"


class ReleasedModel:
    """Scores patients with a study's weights."""

    def __init__(self, task: Task, model: FlatModel) -> None:
        self._task, self._model = task, model
        self._model.module.eval()

    def predict(self, frame: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """The cohort's columns, N rows -> a column `score`, N float64 in [0, 1].

        Numbers may be NaN and categories None where missing; a picture is the bytes of a PNG or
        JPEG file, windowed as a site's cache does it, b"" where there is none. Raises
        WardroundError(MALFORMED_DATA) naming a column that is not there, or holds an unknown
        category or a word for a number.
        """
        import pandas as pd
        import torch

        table = {c.name: _values(c, frame) for c in self._task.schema.columns if c.name in frame}
        table |= {i.name: _pictures(i, frame) for i in self._task.schema.images if i.name in frame}
        features = torch.from_numpy(self._task.features(table)).float()
        with torch.no_grad():
            scores = self._task.scores(self._model.module(features))
        return pd.DataFrame({"score": scores.numpy().astype(np.float64)}, index=frame.index)


def write(directory: Path, study: Study, weights: Vector) -> None:
    """(P,) float32 -> `weights.npz` (one array per parameter), `frozen.npz` where some were not
    trained, and `model.json`, in a new folder.

    Raises WardroundError(MESSAGE) where the weights do not fit the study's task.
    """
    from tasks.flat_model import FlatModel

    task = registry.load(study.task.name, study.task.options)
    model = FlatModel(task, study.optimisation.seed)
    directory.mkdir(parents=True)
    arrays: dict[str, Any] = dict(unpack(np.ascontiguousarray(weights), model.layout))
    np.savez(directory / WEIGHTS, **arrays)
    frozen: dict[str, Any] = dict(model.frozen)
    if frozen:
        np.savez(directory / FROZEN, **frozen)
    reference = {
        "study": study.digest,
        "weights": weights_digest(weights),
        "task": study.task.name,
        "options": study.task.options,
        "version": study.task.version,
        "source": study.task.source,
        "seed": study.optimisation.seed,
    } | ({"frozen": study.model.frozen} if frozen else {})
    (directory / REFERENCE).write_text(json.dumps(reference, indent=2))


def load(directory: Path) -> ReleasedModel:
    """Reads what `write` wrote; executes nothing from it.

    Raises WardroundError: UNKNOWN_TASK where the task is not installed, CONFIGURATION where another
    version of it is, WEIGHTS where the weights are not those that were released. Warns where only
    the task's source differs, and where wardround 0.1.0, which noted no digest, wrote the files.
    """
    from tasks.flat_model import FlatModel

    reference = json.loads((directory / REFERENCE).read_text())
    task = registry.load(reference["task"], reference["options"])
    if task.version != reference["version"]:
        raise WardroundError(
            Code.CONFIGURATION,
            f"The model was trained for version {reference['version']} of task {task.name}; "
            f"installed is version {task.version}.",
            remedy="Install the wardround release that the model's requirements.txt names.",
        )
    if task.source_digest() != reference["source"]:
        warnings.warn(
            f"The source of task {task.name} has changed since this model was trained.",
            stacklevel=2,
        )
    model = FlatModel(task, reference["seed"])
    with np.load(directory / WEIGHTS, allow_pickle=False) as arrays:
        weights = pack({name: arrays[name] for name in arrays.files}, model.layout)
    _require_released(weights, reference.get("weights"))
    model.load(weights)
    if frozen := reference.get("frozen"):
        _load_frozen(model, directory / FROZEN, frozen)
    return ReleasedModel(task, model)


def _load_frozen(model: FlatModel, file: Path, noted: str) -> None:
    """What was not trained, as it was when the study ran. noted: the study's digest of it."""
    own = model.frozen  # views: what is written to them is the model's
    with np.load(file, allow_pickle=False) as arrays:
        for name in own.keys() & set(arrays.files):
            if arrays[name].shape == own[name].shape:
                own[name][...] = arrays[name]
    if model.frozen_digest != noted:
        raise WardroundError(
            Code.WEIGHTS,
            "The frozen parameters are not those of the study.",
            remedy="Do not use the model; take it from the coordinator again.",
        )


def weights_digest(weights: Vector) -> str:
    """SHA-256 of (P,) float32, little-endian: of what `weights.f32` holds at the coordinator."""
    return digest(np.ascontiguousarray(weights, dtype="<f4").tobytes())


def _require_released(weights: Vector, noted: str | None) -> None:
    if noted is None:
        warnings.warn(
            "This model is of wardround 0.1.0, which noted no digest of the weights: whether they "
            "are those that were released is not checked.",
            stacklevel=3,
        )
    elif weights_digest(weights) != noted:
        raise WardroundError(
            Code.WEIGHTS,
            "The weights are not those that the study released.",
            remedy="Do not use them; ask who keeps the artifact store, and take the model from "
            "the coordinator again.",
        )


def _load_pyfunc(path: str) -> ReleasedModel:
    """MLflow's door: `loader_module` in the MLmodel file names this module."""
    return load(Path(path))


def example(schema: Schema) -> pd.DataFrame:
    """Two rows of model input made of public ranges: all in the middle, and all missing."""
    import pandas as pd

    return pd.DataFrame(
        {
            c.name: [(c.low + c.high) / 2, np.nan]
            if c.kind == "number"
            else pd.Series([c.categories[0], None], dtype=object)
            for c in schema.columns
        }
        | {i.name: [_ramp(i), b""] for i in schema.images}
    )


def _ramp(image: Image) -> bytes:
    """A picture that shows nothing: grey from black to white, as a PNG file."""
    import io

    from PIL import Image as Pillow

    grey = np.linspace(0, 255, image.columns).astype(np.uint8)
    file = io.BytesIO()
    Pillow.fromarray(np.tile(grey, (image.rows, 1))).save(file, "PNG")
    return file.getvalue()


def _pictures(image: Image, frame: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A column of files -> (N, rows, columns) uint8, zeros where there is none."""
    import io

    from PIL import Image as Pillow

    pictures = np.zeros((len(frame), image.rows, image.columns), dtype=np.uint8)
    for row, data in enumerate(frame[image.name]):
        if not isinstance(data, bytes) or not data:
            continue
        try:
            with Pillow.open(io.BytesIO(data)) as opened:
                grey = opened.convert("L").resize(
                    (image.columns, image.rows), Pillow.Resampling.BILINEAR
                )
        except (OSError, ValueError, SyntaxError):
            raise WardroundError(
                Code.MALFORMED_DATA,
                f"Column {image.name}, row {row + 1}: not a picture.",
                remedy="Give the bytes of a PNG or JPEG file.",
            ) from None
        pictures[row] = np.asarray(grey)
    return pictures


def _values(column: Column, frame: pd.DataFrame) -> np.ndarray[Any, np.dtype[Any]]:
    import pandas as pd

    series = frame[column.name]
    if column.kind == "number":
        numbers = pd.to_numeric(series, errors="coerce")
        if (numbers.isna() & ~series.isna()).any():
            raise WardroundError(
                Code.MALFORMED_DATA,
                f"Column {column.name} holds something that is no number.",
                remedy="Give numbers, NaN or None where missing.",
            )
        return np.asarray(numbers.to_numpy(dtype=np.float64, na_value=np.nan))
    values = [None if pd.isna(value) else str(value) for value in series]
    if not set(values) <= {None, *column.categories}:
        raise WardroundError(
            Code.MALFORMED_DATA,
            f"Column {column.name} holds something else than its categories "
            f"{', '.join(map(repr, column.categories))}.",
            remedy="Give these texts exactly, None where missing or none of them.",
        )
    return np.array(values, dtype=object)
