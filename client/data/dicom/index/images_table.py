"""What a site's view sees of its images: the tables `images` and `masks`, and the function
`pseudonym`.

SELECT images.patient, images.image, labels.pneumonia
FROM labels JOIN images ON images.accession = pseudonym(labels.accession_number)
WHERE images.view_position IN ('PA', 'AP')

SELECT images.patient, images.image, masks.mask
FROM images LEFT JOIN masks ON masks.image = images.image
"""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from client.data.dicom.index import volumes
from client.data.dicom.index.index import ImageIndex
from client.data.dicom.objects.attributes import COLUMNS, DOSE_COLUMNS, NUMBERS
from client.data.dicom.objects.gate import GatePolicy

TABLE, MASKS, FUNCTION = "images", "masks", "pseudonym"
_TYPES = {
    **dict.fromkeys(COLUMNS, "VARCHAR"),
    **dict.fromkeys((*NUMBERS, *DOSE_COLUMNS, *volumes.COLUMNS), "DOUBLE"),
    **dict.fromkeys(("rows", "columns", "frames"), "INTEGER"),
    **dict.fromkeys(("slice", "slices", "missing_slices", "duplicate"), "INTEGER"),
    "study_date": "DATE",
}


def register(
    connection: duckdb.DuckDBPyConnection, index: ImageIndex, without: Set[str] = frozenset()
) -> None:
    """Makes `images`, one row per ready image and ordered by its key, `masks`, one row per
    segmentation of one of them (its key `mask`, and `image`), and `pseudonym(value)`, or
    `pseudonym(patient_id, issuer := text)` where images state who issued their Patient IDs.

    Columns: `attributes.COLUMNS` (frames: 1 where an object does not say), `volumes.COLUMNS` for
    pictures that are slices of a volume, and `dlp` (mGy.cm) and `ctdivol_report` (mGy) of the
    study's dose report. To be called before the connection is locked.
    without: pseudonyms of patients, or of Patient IDs whoever issued them, whose images it leaves
    out; such an ID's pseudonym is the same under every issuer, so that no view has another for it.
    """
    rows = [row for row in index.ready() if not {row["patient"], row["patient_id"]} & without]
    placed = {key: vars(of) for key, of in volumes.slices_of(rows).items()}
    nowhere = dict.fromkeys(volumes.COLUMNS)
    rows = [{**dict(row), **placed.get(str(row["image"]), nowhere)} for row in rows]
    columns: dict[str, Any] = {}
    for name, kind in _TYPES.items():
        dtype = object if kind in ("VARCHAR", "DATE") else np.float64
        columns[name] = np.array([row[name] for row in rows], dtype=dtype)
    columns["frames"] = np.nan_to_num(columns["frames"], nan=1.0)
    connection.register("indexed_images", pd.DataFrame(columns))  # bare arrays of None break it
    casts = ", ".join(_cast(name, kind) for name, kind in _TYPES.items())
    connection.execute(f"CREATE TABLE {TABLE} AS SELECT {casts} FROM indexed_images")
    connection.unregister("indexed_images")
    there = {row["image"] for row in rows}
    masks = [[one.mask, one.image] for one in index.masks() if one.image in there]
    connection.execute(f"CREATE TABLE {MASKS} (mask VARCHAR, image VARCHAR)")
    if masks:
        connection.executemany(f"INSERT INTO {MASKS} VALUES (?, ?)", masks)

    def of_patient(patient: str, issuer: str) -> str:
        alone = index.names.of(patient)
        return alone if alone in without else index.names.of_patient(patient, issuer)

    connection.create_function("pseudonym_of_patient", of_patient, ["VARCHAR"] * 2, "VARCHAR")
    connection.execute(
        f"CREATE MACRO {FUNCTION}(value, issuer := '') AS"
        " pseudonym_of_patient(CAST(value AS VARCHAR), coalesce(CAST(issuer AS VARCHAR), ''))"
    )


def open_and_register(
    connection: duckdb.DuckDBPyConnection, *, state: Path, gate: GatePolicy, without: Set[str]
) -> None:
    """As `register`, of the index in the state folder. Raises WardroundError(STATE)."""
    with ImageIndex.open(state, gate) as index:
        register(connection, index, without)


def _cast(name: str, kind: str) -> str:
    if kind in ("DOUBLE", "INTEGER"):
        return f'CAST(nullif("{name}", CAST(\'nan\' AS DOUBLE)) AS {kind}) AS "{name}"'
    return f'CAST("{name}" AS {kind}) AS "{name}"'
