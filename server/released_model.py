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
import numpy.typing as npt

from protocol.errors import Code, WardroundError
from protocol.study.study import Study
from protocol.vectors import Vector, unpack, weights_digest
from tasks import registry
from tasks.schema import Column, Image, Schema

if TYPE_CHECKING:
    import pandas as pd

    from tasks.base import Task
    from tasks.flat_model import FlatModel

WEIGHTS = "weights.npz"
FROZEN = "frozen.npz"
REFERENCE = "model.json"
STUDY = "study.json"
CARD = "card.md"
"""The study as it was hashed, and what a reviewer reads: for whoever exports the model."""
_FEW = 0.05
"""The share of a column's values that may lie outside its public range unsaid."""


class ReleasedModel:
    """Scores patients with a study's weights."""

    def __init__(self, task: Task, model: FlatModel) -> None:
        from tasks.scoring import ScoringModel

        self._model = ScoringModel(task, model)

    def predict(self, frame: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """The cohort's columns, N rows -> N rows of what the task's kind of outcome predicts,
        float64: `score` in [0, 1], `score_0`, `score_1` ... of several classes, `prediction`, or
        `area_1`, `area_2` ... of the classes of a mask, which `masks` gives whole.

        Numbers may be NaN and categories None where missing; a picture is the bytes of a PNG or
        JPEG file, windowed as a site's cache does it, b"" where there is none. Raises
        WardroundError(MALFORMED_DATA) naming a column that is not there, or holds an unknown
        category or a word for a number. Warns of numbers outside a column's public range: another
        unit is noticed.
        """
        import pandas as pd

        columns = list(self._model.task.outcome.score_columns)
        found = self._model.scores_of(self.features(frame))
        return pd.DataFrame(found, columns=columns, index=frame.index)

    def masks(self, frame: pd.DataFrame) -> npt.NDArray[np.uint8]:
        """The same N rows -> (N, rows, columns), the class of each pixel of the picture.

        Raises WardroundError: as `predict`, and USAGE where the model makes no masks.
        """
        task = self._model.task
        if not task.schema.masked:
            raise WardroundError(
                Code.USAGE,
                f"The model of task {task.name} makes no masks.",
                remedy="Call predict.",
            )
        made = [self._model.said_of(one)[0].astype(np.uint8) for one in self.features(frame)]
        return np.stack(made) if made else np.empty((0, *task.outcome.label_shape), np.uint8)

    def features(self, frame: pd.DataFrame) -> npt.NDArray[np.float32]:
        """The cohort's columns, N rows -> (N, ...) features, as the model and its exported program
        take them. Raises as `predict`."""
        return features(self._model.task, frame)


def features(task: Task, frame: pd.DataFrame) -> npt.NDArray[np.float32]:
    """As `ReleasedModel.features`, of a task."""
    schema = task.schema
    table = {c.name: _values(c, frame) for c in schema.columns if c.name in frame}
    table |= {i.name: _pictures(i, frame) for i in schema.images if i.name in frame}
    return task.features(table)


def write(directory: Path, study: Study, weights: Vector) -> None:
    """(P,) float32 -> `weights.npz` (one array per parameter), `frozen.npz` where some were not
    trained, `model.json` and `study.json`, in a new folder.

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
    (directory / STUDY).write_bytes(study.document)


def load(directory: Path) -> ReleasedModel:
    """Reads what `write` wrote; executes nothing from it.

    Raises WardroundError: UNKNOWN_TASK where the task is not installed, CONFIGURATION where another
    version of it is, WEIGHTS where the weights are not those that were released. Warns where only
    the task's source differs, and where wardround 0.1.0, which noted no digest, wrote the files.
    """
    from tasks.scoring import installed, with_weights

    told = json.loads((directory / REFERENCE).read_text())
    task = installed(told["task"], told["options"], told["version"], told["source"])
    noted = told.get("frozen", "")
    weights = tensors(directory / WEIGHTS)
    frozen = tensors(directory / FROZEN) if noted else {}
    model = with_weights(task, told["seed"], weights, frozen, noted)
    _require_released(model.weights(), told.get("weights"))
    return ReleasedModel(task, model)


def tensors(file: Path) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    """Name -> values of a file that `write` wrote, in its order."""
    with np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


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
        | {i.name: [_ramp(i), b""] if i.most == 1 else [[_ramp(i)], []] for i in schema.images}
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
    """A column of files, or of lists of files -> (N, *image.shape_of_record) uint8, zeros where
    there is none."""
    pictures = np.zeros((len(frame), image.most, *image.shape), dtype=np.uint8)
    for row, data in enumerate(frame[image.name]):
        files = [data] if image.most == 1 else _listed(data)
        if len(files) > image.most:
            raise WardroundError(
                Code.MALFORMED_DATA,
                f"Column {image.name}, row {row + 1}: more than {image.most} pictures.",
                remedy="Give at most as many, in a list.",
            )
        for place, file in enumerate(files):
            if isinstance(file, bytes | str) and file:
                pictures[row, place] = _picture(image, file, row)
    return pictures.reshape(len(frame), *image.shape_of_record)


def _listed(data: Any) -> list[Any]:
    """A list, or an array as Parquet gives one; a missing value is none."""
    return list(data) if isinstance(data, list | tuple | np.ndarray) else []


def _picture(image: Image, file: Any, row: int) -> npt.NDArray[np.uint8]:
    """A file of the row's -> *image.shape."""
    import io

    from PIL import Image as Pillow

    try:
        with Pillow.open(io.BytesIO(file)) as opened:
            read = opened.convert("RGB" if image.colour else "L").resize(
                (image.columns, image.rows), Pillow.Resampling.BILINEAR
            )
    except (OSError, ValueError, SyntaxError, TypeError):
        raise WardroundError(
            Code.MALFORMED_DATA,
            f"Column {image.name}, row {row + 1}: not a picture.",
            remedy="Give the bytes of a PNG or JPEG file.",
        ) from None
    return np.asarray(read)


def _warn_outside(column: Column, values: npt.NDArray[np.float64]) -> None:
    """Warns where many numbers are outside a column's public range, as in another unit nearly all
    would be, without quoting one."""
    known = column.numbers(values)
    outside = int(((known < column.low) | (known > column.high)).sum())
    if outside > _FEW * len(values):
        unit = "" if column.unit == "1" else f" {column.unit}"
        warnings.warn(
            f"Column {column.name}: {outside} of {len(values)} values lie outside its range of "
            f"{column.low:g} to {column.high:g}{unit}, and count as its end. Is the unit right?",
            stacklevel=4,
        )


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
        known = np.asarray(numbers.to_numpy(dtype=np.float64, na_value=np.nan))
        _warn_outside(column, known)
        return known
    values = [None if pd.isna(value) else str(value) for value in series]
    if not set(values) <= {None, *column.categories}:
        raise WardroundError(
            Code.MALFORMED_DATA,
            f"Column {column.name} holds something else than its categories "
            f"{', '.join(map(repr, column.categories))}.",
            remedy="Give these texts exactly, None where missing or none of them.",
        )
    return np.array(values, dtype=object)
