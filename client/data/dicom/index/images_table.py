"""What a site's view sees of its images: the table `images`, and the function `pseudonym`.

SELECT images.patient, images.image, labels.pneumonia
FROM labels JOIN images ON images.accession = pseudonym(labels.accession_number)
WHERE images.view_position IN ('PA', 'AP')
"""

from __future__ import annotations

from typing import Any

import duckdb
import numpy as np
import pandas as pd

from client.data.dicom.index.index import ImageIndex
from client.data.dicom.objects.attributes import COLUMNS, DOSE_COLUMNS, NUMBERS

TABLE, FUNCTION = "images", "pseudonym"
_WHOLE = ("rows", "columns", "frames")


def _type(column: str) -> str:
    if column in _WHOLE:
        return "INTEGER"
    if column == "study_date":
        return "DATE"
    return "DOUBLE" if column in (*NUMBERS, *DOSE_COLUMNS) else "VARCHAR"


def register(connection: duckdb.DuckDBPyConnection, index: ImageIndex) -> None:
    """Makes `images`, one row per ready image and ordered by its key, and `pseudonym(value)`.

    Columns: `attributes.COLUMNS` (frames: 1 where an object does not say), and `dlp` (mGy.cm) and
    `ctdivol_report` (mGy) of the study's dose report. To be called before the connection is locked.
    """
    rows = index.ready()
    names = (*COLUMNS, *DOSE_COLUMNS)
    columns: dict[str, Any] = {}
    for name in names:
        kind = object if _type(name) in ("VARCHAR", "DATE") else np.float64
        columns[name] = np.array([row[name] for row in rows], dtype=kind)
    columns["frames"] = np.nan_to_num(columns["frames"], nan=1.0)
    connection.register("indexed_images", pd.DataFrame(columns))  # bare arrays of None break it
    casts = ", ".join(_cast(name) for name in names)
    connection.execute(f"CREATE TABLE {TABLE} AS SELECT {casts} FROM indexed_images")
    connection.unregister("indexed_images")
    connection.create_function("pseudonym_of_text", index.names.of, ["VARCHAR"], "VARCHAR")
    connection.execute(
        f"CREATE MACRO {FUNCTION}(value) AS pseudonym_of_text(CAST(value AS VARCHAR))"
    )


def _cast(name: str) -> str:
    if _type(name) == "DOUBLE":
        return f'nullif("{name}", CAST(\'nan\' AS DOUBLE)) AS "{name}"'
    return f'CAST("{name}" AS {_type(name)}) AS "{name}"'
