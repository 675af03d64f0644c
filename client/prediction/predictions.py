"""Scores of a selection, and who they are about: for this hospital's own systems."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import assert_never

import numpy as np
import numpy.typing as npt

from client.cohorts.image_columns import with_pictures
from client.config.site_config import SiteConfig
from client.data.stored_rows import in_memory
from client.prediction.allowed_model import AllowedModel
from client.prediction.selection import IMAGE, RECORD, Selection
from tasks.explanations import contributions, has_contributions, occlusion_map
from tasks.schema import PATIENT, Schema, Table, texts

_TOGETHER = 256
"""Records whose pictures are held at once."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Prediction:
    """What a model says of a record, as many numbers as its outcome's `score_columns`. patient: as
    the view names it. image: the key of its picture, "" for none, of several pictures the first
    that is ready, and file, where that picture lies. given: by column, the numbers and categories
    that it was made from, None where missing. Where the policy wants it explained and it can be:
    contributions, by column; influence, (rows, columns) uint8 of the prepared picture, 255 where
    covering it lowers the score most. mask: of a model that makes one, (rows, columns) uint8, the
    class of each pixel of the prepared picture."""

    record: str
    patient: str
    scores: tuple[float, ...]
    image: str = ""
    file: Path | None = None
    given: Mapping[str, float | str | None] = field(default_factory=dict)
    contributions: Mapping[str, float] = field(default_factory=dict)
    influence: npt.NDArray[np.uint8] | None = field(default=None, compare=False)
    mask: npt.NDArray[np.uint8] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Predictions:
    """What a model said. left_out: why records were not scored -> how many."""

    made: tuple[Prediction, ...]
    left_out: Mapping[str, int]


def predict(
    config: SiteConfig,
    model: AllowedModel,
    selection: Selection,
    progress: Progress = lambda done, of: None,
) -> Predictions:
    """progress: called with (records done, of how many). Raises WardroundError as
    `ScoringModel.scores` and `with_pictures` do."""
    left_out, made = Counter(selection.left_out), []
    for part in _parts(selection):
        table = in_memory(with_pictures(config, model.task, part.table)[0])
        if missing := len(part) - len(table[PATIENT]):
            left_out["its picture cannot be read"] += missing
        files = _files(config, [key for keys in table[IMAGE] for key in str(keys).split()])
        features, given = model.task.features(table), _given(model.task.schema, table)
        why = _explanations(model, table)
        for at, (record, patient, keys) in enumerate(
            zip(table[RECORD], table[PATIENT], table[IMAGE], strict=True)
        ):
            score = model.scoring.said_of(features[at])
            said = tuple(map(float, model.task.outcome.in_columns(score)[0]))
            if not np.isfinite(score).all():
                left_out["the model gives no number"] += 1
                continue
            image = next((key for key in keys.split() if key in files), keys)
            file = files.get(image)
            made.append(
                Prediction(
                    str(record), str(patient), said, image, file, given[at], *why[at], _mask(score)
                )
            )
        progress(len(made), len(selection))
    return Predictions(tuple(made), dict(left_out))


def _mask(score: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8] | None:
    """(1, ...) a record's score -> the mask that it is, if it is one."""
    return score[0].astype(np.uint8) if score.ndim == 3 else None


def _explanations(
    model: AllowedModel, table: Table
) -> list[tuple[dict[str, float], npt.NDArray[np.uint8] | None]]:
    """Of each row its columns' contributions, or its picture's influence."""
    number, schema = len(table[PATIENT]), model.task.schema
    if not model.rules.explain:
        return [({}, None)] * number
    if has_contributions(model.task):
        names = [column.name for column in schema.columns]
        found = contributions(model.scoring, table).tolist()
        return [(dict(zip(names, row, strict=True)), None) for row in found]
    # A mask shows itself where it is, and a map is of one picture.
    if not schema.images or schema.masked or schema.images[0].most > 1:
        return [({}, None)] * number
    rows = ({n: of[row : row + 1] for n, of in table.items()} for row in range(number))
    return [({}, _influence(occlusion_map(model.scoring, one, schema.images[0]))) for one in rows]


def _influence(fall: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8] | None:
    """None where covering nothing lowers the score."""
    most = float(fall.max())
    return None if most <= 0 else np.round(255 * np.maximum(fall, 0) / most).astype(np.uint8)


def _given(schema: Schema, table: Table) -> list[dict[str, float | str | None]]:
    """Of each row the values of the schema's columns. Raises as `Column.numbers`."""
    given: list[dict[str, float | str | None]] = [{} for _ in table[PATIENT]]
    for column in schema.columns:
        match column.kind:
            case "number":
                numbers = column.numbers(table[column.name])
                values = [None if np.isnan(value) else float(value) for value in numbers]
            case "category":
                values = list(texts(table[column.name]))
            case never:
                assert_never(never)
        for row, value in zip(given, values, strict=True):
            row[column.name] = value
    return given


def _parts(selection: Selection) -> Iterator[Selection]:
    for start in range(0, len(selection), _TOGETHER):
        rows = slice(start, start + _TOGETHER)
        table = {name: column[rows] for name, column in selection.table.items()}
        yield Selection(table, {})


def _files(config: SiteConfig, keys: list[str]) -> dict[str, Path]:
    if config.imaging is None or not any(keys):
        return {}
    from client.data.dicom.index.index import ImageIndex

    with ImageIndex.open(config.state, config.imaging.gate) as index:
        return index.paths(keys)
