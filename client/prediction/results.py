"""Predictions as files, by their name: CSV or Parquet, FHIR, or a folder of DICOM reports.

All are for the site's user alone, since they name patients."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client.prediction import health_record
from client.prediction.allowed_model import AllowedModel
from client.prediction.predictions import Prediction
from protocol import durable_files
from protocol.errors import Code, WardroundError, unwritable
from tasks.base import Task

if TYPE_CHECKING:
    import pandas as pd

_TABLES, _RECORD = (".csv", ".parquet"), ".ndjson"


def refuse_unfit(to: Path, task: Task) -> None:
    """Raises WardroundError(USAGE) for what `write` would not write, before work is done."""
    kinds = [*_TABLES, _RECORD, *([""] if task.schema.images else [])]
    if to.suffix not in kinds:
        raise WardroundError(
            Code.USAGE,
            f"{to} says no kind of result that there is for the task {task.name}.",
            remedy="Name a file .csv or .parquet (a table) or .ndjson (FHIR) or, for a task on "
            "pictures, a new folder for DICOM reports.",
        )
    if to.exists():
        raise WardroundError(
            Code.USAGE, f"{to} is there already.", remedy="Name what is not there yet."
        )


def write(
    to: Path, model: AllowedModel, predictions: Sequence[Prediction], when: datetime
) -> Counter[str]:
    """One row, one pair of resources or one report a prediction: whose it is, the score, and what
    it is worth. Durable on return, 0600, never over another file.

    Returns why predictions have no result -> how many: pictures that no report can be made of.
    Raises WardroundError: USAGE where something cannot be written, MALFORMED_DATA as
    `SourceImage.of` does.
    """
    try:
        if not to.suffix:
            made = reports(model, predictions, when)
            to.mkdir(mode=0o700)
            for uid, content in made.objects.items():
                durable_files.write(to / f"{uid}.dcm", content)
            return made.faults
        if to.suffix == _RECORD:
            content = health_record.ndjson(model, predictions, when)
        else:
            content = _table(to.suffix, _frame(model, predictions, when))
        durable_files.write(to, content, replace=False)
    except OSError as error:
        raise unwritable(to, error) from None
    return Counter()


@dataclass(frozen=True)
class DicomResults:
    """objects: UID -> DICOM object, in the order of the predictions; patients: UID -> whom it is
    about, as the view has it. faults: why predictions have no report -> how many."""

    objects: dict[str, bytes]
    patients: dict[str, str]
    faults: Counter[str]


def reports(model: AllowedModel, predictions: Sequence[Prediction], when: datetime) -> DicomResults:
    """The reports, the masks that the model makes, and the maps that explain."""
    from client.prediction import reports as dicom

    made = DicomResults({}, {}, Counter())
    for one in predictions:
        try:
            found = dict([dicom.report(model, one, when)])
        except WardroundError as error:
            made.faults[error.message] += 1
            continue
        try:
            found.update(dicom.drawn(model, one, when))
            found.update(dicom.explanation(model, one, when))
        except WardroundError:
            made.faults["its map or mask cannot be made; it is reported without"] += 1
        made.objects.update(found)
        made.patients.update(dict.fromkeys(found, one.patient))
    return made


def _table(suffix: str, frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    if suffix == _TABLES[0]:
        frame.to_csv(buffer, index=False)  # floats in their shortest round-trip form
    else:
        frame.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _frame(model: AllowedModel, predictions: Sequence[Prediction], when: datetime) -> pd.DataFrame:
    import pandas as pd

    from client.prediction.findings import in_full

    columns: dict[str, Any] = {"patient": [one.patient for one in predictions]}
    if model.task.schema.images:
        from client.data.dicom.results.source_image import SourceImage

        found = [SourceImage.of(one.file) for one in predictions]
        for name in SourceImage.__annotations__:
            columns[name] = [getattr(image, name) for image in found]
    for at, name in enumerate(model.task.outcome.score_columns):
        columns[name] = [one.scores[at] for one in predictions]
    for name in predictions[0].contributions:
        columns[f"contribution_{name}"] = [one.contributions[name] for one in predictions]
    frame = pd.DataFrame(columns)
    for name, value in {
        "predicts": in_full(model.task.title, model),
        "model": model.bundle.name,
        "digest": model.bundle.digest,
        "study": model.bundle.study.digest,
        "time": when.isoformat(timespec="seconds"),
        "use": model.notice,
    }.items():
        frame[name] = value
    return frame
