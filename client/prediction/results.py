"""Predictions as a file of a table: CSV, or Parquet where its name ends so. For its owner alone."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client.prediction.allowed_model import AllowedModel
from client.prediction.predictions import Prediction
from protocol import durable_files
from protocol.errors import Code, WardroundError, unwritable

if TYPE_CHECKING:
    import pandas as pd

CSV, PARQUET = ".csv", ".parquet"


def refuse_unfit(file: Path) -> None:
    """Raises WardroundError(USAGE) for a file that `write` would not write, before work is done."""
    if file.suffix not in (CSV, PARQUET):
        raise WardroundError(
            Code.USAGE,
            f"{file} is neither {CSV} nor {PARQUET}.",
            remedy="Let the file's name end so.",
        )
    if file.exists():
        raise WardroundError(
            Code.USAGE, f"{file} is there already.", remedy="Name a file that is not there yet."
        )


def write(
    file: Path, model: AllowedModel, predictions: Sequence[Prediction], when: datetime
) -> None:
    """One row a prediction: whose it is, the score with all its digits, and what it is worth.
    Durable on return, 0600, never over another file.

    Raises WardroundError: USAGE where the file cannot be written, MALFORMED_DATA as
    `SourceImage.of` does.
    """
    frame, buffer = _frame(model, predictions, when), io.BytesIO()
    if file.suffix == CSV:
        frame.to_csv(buffer, index=False)  # floats in their shortest round-trip form
    else:
        frame.to_parquet(buffer, index=False)
    try:
        durable_files.write(file, buffer.getvalue(), replace=False)
    except OSError as error:
        raise unwritable(file, error) from None


def _frame(model: AllowedModel, predictions: Sequence[Prediction], when: datetime) -> pd.DataFrame:
    import pandas as pd

    columns: dict[str, Any] = {"patient": [one.patient for one in predictions]}
    if model.task.schema.images:
        from client.data.dicom.results.source_image import SourceImage

        found = [SourceImage.of(one.file) for one in predictions]
        for name in SourceImage.__annotations__:
            columns[name] = [getattr(image, name) for image in found]
    columns["score"] = [one.score for one in predictions]
    frame = pd.DataFrame(columns)
    for name, value in {
        "predicts": f"{model.task.title} ({model.task.schema.label_meaning})",
        "model": model.bundle.name,
        "digest": model.bundle.digest,
        "study": model.bundle.study.digest,
        "time": when.isoformat(timespec="seconds"),
        "use": model.notice,
    }.items():
        frame[name] = value
    return frame
