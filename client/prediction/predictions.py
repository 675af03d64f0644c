"""Scores of a selection, and who they are about: for this hospital's own systems."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from client.cohorts.image_columns import with_pictures
from client.config.site_config import SiteConfig
from client.prediction.allowed_model import AllowedModel
from client.prediction.selection import IMAGE, RECORD, Selection
from tasks.schema import PATIENT

_TOGETHER = 256
"""Records whose pictures are held at once."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Prediction:
    """A record's score in [0, 1]. patient: as the view names it. image: the key of its picture,
    "" for none, and file, where that picture lies."""

    record: str
    patient: str
    score: float
    image: str = ""
    file: Path | None = None


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
        columns = (table[RECORD], table[PATIENT], model.scoring.scores(table)[:, 0], table[IMAGE])
        made += [
            Prediction(str(record), str(patient), float(score), image, files.get(image))
            for record, patient, score, image in zip(*columns, strict=True)
        ]
        progress(len(made), len(selection))
    return Predictions(tuple(made), dict(left_out))


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
