"""The DuckDB door: files become columns, and a view can do nothing but read them."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path

import duckdb
import numpy as np
import pytest
from pydantic import ValidationError

from client.data.sources.files.tables import register
from client.data.sources.session import Session
from client.data.sources.settings import Sources
from client.data.view_reader import read as read_sources
from protocol.errors import Code, WardroundError
from tasks.schema import Table

_ROWS = "patient,age,sex\np1,63,m\np2,?,f\n"


def read(
    files: dict[str, Path],
    view: str,
    *,
    headerless: Mapping[str, tuple[str, ...]] | None = None,
    memory: int = 2 << 30,
) -> Table:
    sources = Sources(files=files, headerless=dict(headerless or {}))
    return read_sources(sources, view, memory=memory)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text(_ROWS)
    return path


def test_a_view_selects_joins_and_computes(tmp_path: Path, file: Path) -> None:
    (tmp_path / "labs.ndjson").write_text('{"id": "p1", "ldl": 2.5}\n{"id": "p2", "ldl": null}\n')
    table = read(
        {"rows": file, "labs": tmp_path / "labs.ndjson"},
        "SELECT r.patient, age / 10 AS decades, sex, ldl > 2 AS high FROM rows r "
        "JOIN labs ON id = patient ORDER BY 1",
    )
    assert table["patient"].tolist() == ["p1", "p2"]
    assert table["sex"].tolist() == ["m", "f"]
    assert table["decades"][0] == 6.3
    assert np.isnan(table["decades"][1])
    assert table["high"][0] == 1.0
    assert np.isnan(table["high"][1])


def test_every_format_gives_the_same_columns(tmp_path: Path, file: Path) -> None:
    (tmp_path / "rows.tsv").write_text(_ROWS.replace(",", "\t"))
    (tmp_path / "semicolons.csv").write_text("\ufeff" + _ROWS.replace(",", ";"))
    (tmp_path / "rows.csv.gz").write_bytes(gzip.compress(_ROWS.encode()))
    (tmp_path / "rows.data").write_text(_ROWS.split("\n", 1)[1])
    (tmp_path / "rows.ndjson").write_text(
        '{"patient": "p1", "age": 63, "sex": "m"}\n{"patient": "p2", "sex": "f"}\n'
    )
    parquet = str(tmp_path / "rows.parquet")
    duckdb.read_csv(str(file), na_values="?").write_parquet(parquet)
    for name in ("rows.tsv", "semicolons.csv", "rows.csv.gz", "rows.data", "rows.ndjson",
                 "rows.parquet", "rows.csv"):  # fmt: skip
        headerless = {"t": ("patient", "age", "sex")} if name == "rows.data" else None
        table = read({"t": tmp_path / name}, "SELECT * FROM t", headerless=headerless)
        assert table["patient"].tolist() == ["p1", "p2"], name
        assert table["age"].dtype == np.float64, name
        np.testing.assert_array_equal(table["age"], [63, np.nan], err_msg=name)


def test_identifiers_keep_their_digits_and_fractions_stay(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("zeros,large,fraction\n007,9007199254740993,.7\n08,9007199254740992,2\n")
    table = read({"t": path}, "SELECT * FROM t")
    assert table["zeros"].tolist() == ["007", "08"]
    assert table["large"].tolist() == ["9007199254740993", "9007199254740992"]
    assert table["fraction"].tolist() == [0.7, 2.0]


@pytest.mark.parametrize(
    "view",
    [
        "SELECT * FROM '{other}'",
        "SELECT * FROM read_csv('{other}')",
        "SELECT * FROM read_text('{other}')",
        "SELECT * FROM read_csv('{file}')",
        "SELECT * FROM glob('{folder}/*')",
        "SELECT getenv('HOME')",
        "COPY rows TO '{folder}/written.csv'",
        "EXPORT DATABASE '{folder}/written.csv'",
        "ATTACH '{folder}/written.csv'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "PRAGMA database_list",
        "DROP TABLE rows",
        "INSERT INTO rows VALUES ('p3', 1, 'f')",
        "WITH x AS (INSERT INTO rows VALUES ('p3', 1, 'f') RETURNING *) SELECT * FROM x",
        "SELECT * FROM rows; DROP TABLE rows",
        "SELECT * FROM rows; COPY rows TO '{folder}/written.csv'",
        "CALL pragma_version()",
        "",
        "not SQL",
    ],
)
def test_a_view_reaches_nothing_but_its_files(tmp_path: Path, file: Path, view: str) -> None:
    other = tmp_path / "other.csv"
    other.write_text("canary\nCANARY\n")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(WardroundError) as caught:
        read({"rows": file}, view.format(other=other, file=file, folder=tmp_path))
    assert caught.value.code is Code.CONFIGURATION
    assert "CANARY" not in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("t.csv", "patient,age\np1,1\np2,CANARY,3\n", "line 3 (3 columns instead of 2)"),
        ("t.csv", "patient,age\np1,1\nCANARY\n", "line 3 (1 columns instead of 2)"),
        ("t.csv", 'patient,age\n"CANARY,1\np2,2\n', "t.csv"),
        ("t.csv", b"patient,age\np1,CANARY\xff\xfe\n", "t.csv"),
        ("t.csv", b"pati\xffent,age\np1,1\n", "line 1"),
        ("t.csv.gz", b"CANARY", "t.csv.gz"),
        ("t.ndjson", '{"a": 1}\n{"a": "CANARY\n{"a": 3}\n', "line 2"),
        ("t.parquet", "PAR1 CANARY", "t.parquet"),
    ],
)
def test_a_broken_file_is_named_by_line_and_not_quoted(
    tmp_path: Path, name: str, text: str | bytes, says: str
) -> None:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(WardroundError) as caught:
        read({"t": path}, "SELECT * FROM t")
    assert caught.value.code is Code.MALFORMED_DATA
    assert str(path) in str(caught.value)
    assert says in str(caught.value)
    assert "CANARY" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_view_that_fails_on_a_value_does_not_quote_it(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("age\n63\nCANARY\n")
    with pytest.raises(WardroundError, match="The view fails") as caught:
        read({"t": path}, "SELECT CAST(age AS INTEGER) FROM t")
    assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "code"),
    [("absent.csv", Code.NO_DATA), ("empty.csv", Code.NO_DATA), ("t.xls", Code.CONFIGURATION)],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, code: Code) -> None:
    (tmp_path / "empty.csv").touch()
    (tmp_path / "t.xls").write_text("x")
    with pytest.raises(WardroundError, match=name) as caught:
        read({"t": tmp_path / name}, "SELECT * FROM t")
    assert caught.value.code is code


def test_a_name_cannot_carry_sql(file: Path) -> None:
    name = 't" AS SELECT 1; --'
    with pytest.raises(ValidationError, match="pattern"):
        read({name: file}, "SELECT 1")
    with Session(1 << 30, 1) as session, pytest.raises(WardroundError, match="cannot name a table"):
        register(session, name, file)


@pytest.mark.parametrize(
    ("view", "says"),
    [
        ("SELECT age, age FROM rows", "twice"),
        ("SELECT nope FROM rows", "nope"),
        ("SELECT * FROM nowhere", "nowhere"),
        ("SELECT 1::HUGEINT AS id", "would lose digits"),
    ],
)
def test_a_wrong_view_is_explained(file: Path, view: str, says: str) -> None:
    with pytest.raises(WardroundError, match=says):
        read({"rows": file}, view)


def test_memory_is_limited(file: Path) -> None:
    with pytest.raises(WardroundError, match="more memory than allowed"):
        read({"rows": file}, "SELECT * FROM range(100000000) ORDER BY random()", memory=50 << 20)
