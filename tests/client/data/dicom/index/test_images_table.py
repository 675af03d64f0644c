"""The table `images` of a site with more pictures than DuckDB looks at to guess a column's type."""

from __future__ import annotations

from pathlib import Path

import duckdb

from client.data.dicom.index.images_table import register
from client.data.dicom.index.index import ImageIndex, ImageRow
from client.data.dicom.objects.attributes import COLUMNS
from client.data.dicom.objects.gate import GatePolicy


def test_columns_that_are_empty_for_thousands_of_images_are_null(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    rows = []
    for number in range(2500):
        values: dict[str, str | float | None] = dict.fromkeys(COLUMNS)
        for column in ("image", "patient", "study", "series"):
            values[column] = f"{column}{number:04d}"
        if number == 2499:
            values["laterality"], values["study_date"] = "L", "2024-02-29"
        rows.append(ImageRow(Path(f"/pacs/{number}"), 1, 1, None, values=values))
    with ImageIndex.open(tmp_path / "state", GatePolicy(detect_text=False)) as index:
        index.put(rows)
        connection = duckdb.connect()
        register(connection, index)
    counted = connection.execute(
        "SELECT count(*), count(laterality), count(manufacturer), max(year(study_date)) FROM images"
    ).fetchone()
    assert counted == (2500, 1, 0, 2024)
