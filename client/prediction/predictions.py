"""Scores of a selection, and who they are about: for this hospital's own systems."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import assert_never

import numpy as np

from client.cohorts.image_columns import with_pictures
from client.config.site_config import SiteConfig
from client.prediction.allowed_model import AllowedModel
from client.prediction.selection import IMAGE, RECORD, Selection
from tasks.schema import PATIENT, Schema, Table, texts

_TOGETHER = 256
"""Records whose pictures are held at once."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Prediction:
    """What a model says of a record, as many numbers as its outcome's `score_columns`. patient: as
    the view names it. image: the key of its picture, "" for none, and file, where that picture
    lies. given: by column, the numbers and categories that it was made from, None where missing."""

    record: str
    patient: str
    scores: tuple[float, ...]
    image: str = ""
    file: Path | None = None
    given: Mapping[str, float | str | None] = field(default_factory=dict)


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
        table, _ = with_pictures(config, model.task, part.table)
        if missing := len(part) - len(table[PATIENT]):
            left_out["its picture cannot be read"] += missing
        files = _files(config, [str(key) for key in table[IMAGE]])
        scores, given = model.scoring.scores(table), _given(model.task.schema, table)
        for at, (record, patient, image) in enumerate(
            zip(table[RECORD], table[PATIENT], table[IMAGE], strict=True)
        ):
            said = tuple(map(float, scores[at]))
            file = files.get(image)
            made.append(Prediction(str(record), str(patient), said, image, file, given[at]))
        progress(len(made), len(selection))
    return Predictions(tuple(made), dict(left_out))


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
