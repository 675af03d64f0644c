"""Which records a model is to score: all of a cohort, those of an examination, or what is new.

Records come from the task's view; where a task reads nothing but pictures, one of a record, from
the index of images. Patients who object are in neither (`client.cohorts.loading`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from client.cohorts.loading import read_images, read_table
from client.config.site_config import SiteConfig
from client.data.cohort import identifiers
from client.prediction.allowed_model import AllowedModel
from protocol.document import canonical, digest
from protocol.errors import Code, WardroundError
from tasks.base import Task
from tasks.schema import PATIENT, Table

COHORT, NEW = "cohort", "new"
"""What may be asked for; anything else is an accession number."""
IMAGE, RECORD = "image", "record"
"""Columns that a selection adds: the key of a record's picture, "" for none, of several pictures
their keys with a space between two, and the record's digest, by which it is known again."""


@dataclass(frozen=True, eq=False)
class Selection:
    """N records in a table of the task's columns, with keys for pictures, and IMAGE and RECORD.
    left_out: why records are not scored -> how many."""

    table: Table
    left_out: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.table[PATIENT])


def select(
    config: SiteConfig,
    model: AllowedModel,
    which: str,
    is_scored: Callable[[str], bool] = lambda record: False,
) -> Selection:
    """is_scored: whether the model has scored a record before, by its digest.

    Raises WardroundError: USAGE for an accession number where the task reads no picture,
    MALFORMED_DATA for a view without a column of the task, and what reading raises.
    """
    task = model.task
    pictures = [image.name for image in task.schema.images]
    images = read_images(config, task) if pictures else {}
    several = any(image.most > 1 for image in task.schema.images)
    if pictures and not task.schema.columns and not several:
        table: Table = {PATIENT: images[PATIENT]} | dict.fromkeys(pictures, images[IMAGE])
    else:
        table = _columns(task, read_table(config, task.name))
    keys = table[pictures[0]] if pictures else np.full(len(table[PATIENT]), "", dtype=object)
    table = {**table, IMAGE: np.array([_text(key) for key in keys], dtype=object)}
    table[RECORD] = np.array(_records(table), dtype=object)
    if which not in (COHORT, NEW):
        table = _of_accession(config, task, table, images, which)
    why = [""] * len(table[PATIENT])
    if pictures:
        why = _outside(model, table[IMAGE], images)
    if which == NEW:
        why = [
            reason or ("scored before" if is_scored(record) else "")
            for reason, record in zip(why, table[RECORD], strict=True)
        ]
    kept = np.array([not reason for reason in why], dtype=bool)
    counts = Counter(reason for reason in why if reason)
    counts.pop("scored before", None)  # nobody waits for those
    return Selection({name: column[kept] for name, column in table.items()}, counts)


def _columns(task: Task, table: Table) -> dict[str, Any]:
    wanted = [name for name in task.schema.names if name not in task.schema.label_columns]
    for name in wanted:
        if name not in table:
            raise WardroundError(
                Code.MALFORMED_DATA,
                f"The view of task {task.name} has no column {name}, which the model needs.",
                remedy=f"SELECT it AS {name} in the site's view; NULL is missing.",
            )
    return {name: table[name] for name in wanted} | {PATIENT: identifiers(table[PATIENT])}


def _records(table: Table) -> list[str]:
    """One digest a row, of all that it holds."""
    rows = zip(*(table[name] for name in sorted(table)), strict=True)
    return [digest(canonical([_text(value) for value in row])) for row in rows]


def _text(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return digest(np.ascontiguousarray(value).tobytes())
    return "" if value is None or value != value else str(value)


def _of_accession(
    config: SiteConfig, task: Task, table: Table, images: Table, number: str
) -> dict[str, Any]:
    if not task.schema.images or config.imaging is None:
        raise WardroundError(
            Code.USAGE,
            f"Task {task.name} reads no picture, so that no accession number leads to a record.",
            remedy=f"Use --for {COHORT} or --for {NEW}.",
        )
    from client.data.dicom.index.index import ImageIndex

    with ImageIndex.open(config.state, config.imaging.gate) as index:
        name = index.names.of(number)
    keys = {key for key, of in zip(images[IMAGE], images["accession"], strict=True) if of == name}
    if not keys:
        raise WardroundError(
            Code.NO_DATA,
            "No picture that is ready has this accession number.",
            remedy="See `wardround-site images` for what was kept out, and run `wardround-site "
            "index` if it came a moment ago. Patients who object are left out.",
        )
    kept = np.array([not keys.isdisjoint(of.split()) for of in table[IMAGE]], dtype=bool)
    return {name: column[kept] for name, column in table.items()}


def _outside(model: AllowedModel, of_rows: Any, images: Table) -> list[str]:
    """Why a row is not scored: for any of its pictures; "" where it is."""
    columns = ("modality", "body_part", "view_position")
    stated = zip(*(images[name] for name in columns), strict=True)
    facts = {
        key: dict(zip(columns, values, strict=True))
        for key, values in zip(images[IMAGE], stated, strict=True)
    }
    known = {key: model.rules.outside(of) for key, of in facts.items()}
    if model.task.schema.columns:
        known[""] = ""  # it has no picture, and is scored by the rest
    unready = "no picture that is ready"
    why = [[known.get(key, unready) for key in keys.split() or [""]] for keys in of_rows]
    return [next(filter(None, reasons), "") for reasons in why]
