"""Workbooks and packed files give the same table as the plain file."""

from __future__ import annotations

import datetime
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pyarrow as pa
import pytest

from client.data.sources.file_format import FileFormat
from client.data.sources.settings import Sources
from client.data.view_reader import read
from protocol.errors import Code, WardroundError
from tasks.schema import Table

TEXT = b"patient,age\n007,63\n008,64\n"
LINES = b'{"patient": "007", "age": 63}\n{"patient": "008", "age": 64}\n'


def table(path: Path, view: str = "SELECT * FROM t ORDER BY 1", **layout: Any) -> Table:
    formats = {"t": FileFormat(**layout)} if layout else {}
    return read(Sources(files={"t": path}, formats=formats), view)


def refusal(path: Path, **layout: Any) -> WardroundError:
    with pytest.raises(WardroundError) as caught:
        table(path, **layout)
    assert "CANARY" not in str(caught.value)
    assert path.name in caught.value.message or "formats" in caught.value.message
    return caught.value


def zstd(path: Path, content: bytes) -> Path:
    path.write_bytes(pa.compress(content, codec="zstd", asbytes=True))
    return path


def zipped(path: Path, **files: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name.replace("_", "."), content)
    return path


def sheet(path: Path, rows: list[list[Any]], *, title: str = "Sheet", more: str = "") -> Path:
    book = openpyxl.Workbook()
    first = book.active
    assert first is not None
    first.title = title
    for row in rows:
        first.append(row)
    if more:
        book.create_sheet(more).append(["other"])
    book.save(path)
    return path


def test_every_packing_gives_the_same(tmp_path: Path) -> None:
    paths = [
        zstd(tmp_path / "t.csv.zst", TEXT),
        zstd(tmp_path / "t.ndjson.zst", LINES),
        zipped(tmp_path / "t.zip", export_csv=TEXT),
        zipped(tmp_path / "u.csv.zip", export_csv=TEXT),
        sheet(tmp_path / "t.xlsx", [["patient", "age"], ["007", 63], ["008", 64.0]]),
    ]
    for path in paths:
        found = table(path)
        assert (found["patient"].tolist(), found["age"].tolist()) == (["007", "008"], [63, 64])


def test_another_encoding_within_a_zip(tmp_path: Path) -> None:
    path = zipped(tmp_path / "t.zip", t_csv="stadt\nMünchen\n".encode("cp1252"))
    assert table(path, encoding="cp1252")["stadt"].tolist() == ["München"]
    assert "cp1252" in refusal(path).remedy


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("two.zip", "holds 2 files"),
        ("none.zip", "holds 0 files"),
        ("json.zip", "cannot tell the format"),
        ("broken.zip", "damaged"),
        ("broken.csv.zst", "not well formed"),
        ("cut.csv.zst", "not well formed"),
        ("broken.xlsx", "damaged"),
        ("other.xlsx", "damaged"),
    ],
)
def test_what_cannot_be_unpacked_is_named(tmp_path: Path, name: str, says: str) -> None:
    zipped(tmp_path / "two.zip", a_csv=TEXT, b_csv=TEXT)
    zipped(tmp_path / "none.zip")
    zipped(tmp_path / "json.zip", a_ndjson=LINES)
    zipped(tmp_path / "other.xlsx", a_csv=TEXT)
    for broken in ("broken.zip", "broken.csv.zst", "broken.xlsx"):
        (tmp_path / broken).write_bytes(b"CANARY")
    whole = zstd(tmp_path / "whole.csv.zst", TEXT + bytes(range(32, 127)) * 99).read_bytes()
    (tmp_path / "cut.csv.zst").write_bytes(whole[: len(whole) // 2])
    error = refusal(tmp_path / name)
    assert says in error.message
    assert error.remedy


def test_the_cells_of_a_workbook_lose_nothing(tmp_path: Path) -> None:
    rows: list[list[Any]] = [
        ["Export of the ward"],
        ["id", "text", "number", "day", "moment", "flag", "gap", None],
        ["0012", "a, b", 12.5, datetime.date(2020, 2, 1), None, True, None, None],
        [None] * 7,
        ["0013", "c\nd", 7, None, datetime.datetime(2020, 2, 1, 10, 30), False, "#N/A", "beside"],
    ]
    path = sheet(tmp_path / "t.xlsx", rows)
    kinds = "SELECT typeof(id) AS a, typeof(number) AS b, typeof(day) AS c, typeof(moment) AS d"
    found = table(path, f"{kinds} FROM t LIMIT 1", title_lines=1)
    assert [found[x][0] for x in "abcd"] == ["VARCHAR", "DOUBLE", "DATE", "TIMESTAMP"]
    found = table(path, "SELECT * FROM t ORDER BY id", title_lines=1)
    assert found["id"].tolist() == ["0012", "0013"]
    assert found["text"].tolist() == ["a, b", "c\nd"]
    assert found["number"].tolist() == [12.5, 7.0]
    assert np.isnan(found["gap"]).all()
    assert "beside" not in found


def test_numbers_as_texts_and_as_cells_in_one_column(tmp_path: Path) -> None:
    mixed: list[list[Any]] = [["a"], [1.5], ["2,5"]]
    path = sheet(tmp_path / "t.xlsx", mixed)
    assert table(path, decimal=",", types={"a": "number"})["a"].tolist() == [1.5, 2.5]
    rows: list[list[Any]] = [["d"], ["01.02.2020"], [datetime.date(2020, 2, 1)]]
    path = sheet(tmp_path / "u.xlsx", rows)
    view = "SELECT DISTINCT CAST(d AS VARCHAR) AS d FROM t"
    assert table(path, view, dates=["%d.%m.%Y"])["d"].tolist() == ["2020-02-01"]


def test_a_sheet_is_stated(tmp_path: Path) -> None:
    path = sheet(tmp_path / "t.xlsx", [["a"], [1]], title="First", more="CANARY")
    assert list(table(path)) == ["a"]
    assert list(table(path, sheet="CANARY")) == ["other"]
    assert refusal(path, sheet="none").code is Code.CONFIGURATION
    assert refusal(path, delimiter=";").code is Code.CONFIGURATION
    (tmp_path / "t.csv").write_bytes(TEXT)
    assert refusal(tmp_path / "t.csv", sheet="First").code is Code.CONFIGURATION
