"""Files are read in place, within bounds of memory and time; views can do nothing but read."""

from __future__ import annotations

import gzip
import os
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pytest

from client.data.sources import code_systems, units
from client.data.sources.session import Extra, Session
from client.data.sources.settings import Sources
from client.data.view_reader import read
from protocol.errors import Code, WardroundError


def refused(view: str, **files: Path) -> WardroundError:
    with pytest.raises(WardroundError) as caught:
        read(Sources(files=files), view, memory=500 << 20)
    assert "CANARY" not in str(caught.value)
    assert caught.value.__cause__ is None
    return caught.value


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text("patient,age\np1,63\np2,64\n")
    return path


@pytest.mark.parametrize(
    "view",
    [
        "SELECT * FROM read_blob('{file}')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_csv_auto('/etc/passwd')",
        "SELECT * FROM read_json_objects('{file}')",
        "SELECT * FROM read_parquet('{file}')",
        "SELECT * FROM parquet_metadata('{file}')",
        "SELECT * FROM sniff_csv('{file}')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM \"{file}\"",
        "SELECT * FROM query('SELECT 1')",
        "SELECT * FROM query_table('rows')",
        "SELECT * FROM json_execute_serialized_sql('{{}}')",
        "SELECT json_execute_serialized_sql('{{}}')",
        "SELECT * FROM rows WHERE age IN (SELECT content FROM read_text('/etc/passwd'))",
        "WITH a AS (SELECT * FROM glob('/*')) SELECT * FROM a",
        "SELECT (SELECT max(file) FROM glob('/*')) AS f FROM rows",
        "SELECT list_transform([1], x -> current_setting('allowed_paths')) AS f FROM rows",
        "SELECT getvariable('x') AS f",
        "SELECT current_setting('memory_limit') AS f",
        "SELECT current_query() AS f",
        "SELECT pg_sleep(1) AS f",
        "SELECT sleep_ms(10) AS f",
        "SELECT error('CANARY') AS f",
        "SELECT write_log('CANARY') AS f",
        "SELECT nextval('s') AS f",
        "SELECT * FROM duckdb_settings()",
        "SELECT * FROM duckdb_logs",
        "SELECT * FROM pragma_table_info('rows')",
        "SELECT * FROM information_schema.tables",
        "SELECT * FROM pg_catalog.pg_class",
        "SELECT * FROM system.information_schema.tables",
        "SELECT * FROM sqlite_master",
        "SELECT * FROM (SHOW TABLES)",
        "SELECT * FROM (DESCRIBE rows)",
        "SELECT * FROM (SUMMARIZE rows)",
        "DESCRIBE rows",
        "SHOW TABLES",
        "FROM rows SELECT * INTO OUTFILE 'x'",
        "COPY (SELECT 1) TO '{folder}/x.csv'",
        "CREATE TABLE x AS SELECT 1",
        "CREATE MACRO m() AS 1",
        "CREATE TEMP VIEW v AS SELECT 1",
        "PREPARE p AS SELECT 1",
        "EXECUTE p",
        "EXPLAIN ANALYZE SELECT 1",
        "VACUUM",
        "CHECKPOINT",
        "RESET memory_limit",
        "CREATE SECRET s (TYPE s3)",
        "IMPORT DATABASE '{folder}'",
        "BEGIN TRANSACTION",
        "MERGE INTO rows USING rows AS r ON true WHEN MATCHED THEN DELETE",
        "DELETE FROM rows RETURNING *",
        "SELECT " + "abs(" * 3000 + "1" + ")" * 3000,
        "SELECT * FROM \x00",
        "SELECT '\ud800' AS a",
    ],
)  # fmt: skip
def test_a_hostile_view_is_refused(rows: Path, view: str) -> None:
    before = sorted(rows.parent.iterdir())
    text = view.format(file=rows, folder=rows.parent) if "{" in view else view
    assert refused(text, rows=rows).code is Code.CONFIGURATION
    assert sorted(rows.parent.iterdir()) == before


@pytest.mark.parametrize(
    "view",
    [
        "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 3)"
        " SELECT count(*) AS n FROM c",
        "SELECT count(*) AS n FROM rows, range(3) QUALIFY row_number() OVER () = 1",
        "FROM (FROM rows PIVOT (max(age) FOR patient IN ('p1', 'p2'))) SELECT p1 AS n",
        "SELECT count(*) FILTER (age > 1) AS n FROM main.rows",
        "SELECT unnest([1, 2]) AS n",
        "SELECT max(x) AS n FROM (SELECT unnest(json_extract('[1, 2]', '$[*]'))::INT AS x)",
        "SELECT coalesce(NULL, age) AS n FROM rows UNION ALL BY NAME SELECT 1 AS n",
        "SELECT list_max(list_transform([age], x -> x + 1)) AS n FROM rows",
        "SELECT date_diff('day', DATE '2020-01-01', TIMESTAMP '2020-02-01') AS n",
        "SELECT regexp_extract('a12', '[0-9]+')::INT AS n FROM memory.main.rows",
        "SELECT a.age AS n FROM rows a ASOF JOIN rows b ON a.patient = b.patient"
        " AND a.age >= b.age",
    ],
)  # fmt: skip
def test_what_computes_is_allowed(rows: Path, view: str) -> None:
    assert len(read(Sources(files={"rows": rows}), view)["n"]) >= 1


def images(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("CREATE TABLE images AS SELECT 'k1' AS image, 'h-p1' AS patient")
    connection.create_function("of_text", lambda t: f"h-{t}", ["VARCHAR"], "VARCHAR")
    connection.execute("CREATE MACRO pseudonym(value) AS of_text(CAST(value AS VARCHAR))")


def test_an_extra_adds_tables_and_functions(rows: Path) -> None:
    view = "SELECT r.patient, i.image FROM rows r LEFT JOIN images i"
    view += " ON i.patient = pseudonym(r.patient) ORDER BY 1"
    table = read(Sources(files={"rows": rows}), view, extras=(images,))
    assert table["image"].tolist() == ["k1", None]
    with pytest.raises(WardroundError, match="Two tables are named images"):
        read(Sources(files={"images": rows}), view, extras=(images,))


def test_a_path_with_a_star_is_all_its_files(tmp_path: Path) -> None:
    for k in (1, 2):
        (tmp_path / f"part{k}.csv").write_text(f"patient,age\np{k},{k}\n")
        (tmp_path / f"labs{k}.ndjson").write_text(f'{{"patient": "p{k}", "ldl": {k}.5}}\n')
        duckdb.sql(f"SELECT 'p{k}' AS patient, {k} AS hr").write_parquet(f"{tmp_path}/v{k}.parquet")
    sources = Sources(
        files={"a": tmp_path / "part*.csv", "b": tmp_path / "labs*.ndjson", "c": tmp_path / "v*"}
    )
    table = read(
        sources, "SELECT * FROM a JOIN b USING (patient) JOIN c USING (patient) ORDER BY 1"
    )
    assert (table["age"].tolist(), table["ldl"].tolist()) == ([1, 2], [1.5, 2.5])
    assert table["hr"].tolist() == [1, 2]
    assert refused("SELECT 1 AS a", x=tmp_path / "none*.csv").code is Code.NO_DATA


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("t.csv", b"a,b\n1,ok\n2,\xc3\xa9\n3,CANARY\xe9\n4,z\n", "line 4, is not UTF-8"),
        ("t.csv", b"a,b\n1,2\n" + b"CANARY" * 400_000, "line 3: longer than 1 MiB"),
        ("t.csv.gz", gzip.compress(b"a,b\n1,2\n" + b"CANARY" * 400_000 + b"\n3,4\n"), "line 3"),
        ("t.csv", b"a,A\n1,CANARY\n", "names a column twice"),
        ("t.csv", b"a,b\n1,2\n3", "line 3 (1 columns instead of 2)"),
        ("t.csv", b'a,b\n1,2\n3,"CANARY\n', "line 3"),
        ("t.ndjson", b'{"a": 1}\n{"a": "CANARY', "line 2"),
        ("t.ndjson", b'{"a": 1}\n{"a": "\xffCANARY"}\n', "line 2"),
        ("t.ndjson.gz", gzip.compress(b'{"a": 1}\n{"a": CANARY}\n'), "line 2"),
        ("t.ndjson", b'{"a": 1}\n{"a": "' + b"C" * (40 << 20) + b'"}\n', "line 2: longer than 16"),
        ("t.json", b'[{"a": 1}, {"a": CANARY}]', "t.json"),
        ("t.csv.gz", gzip.compress(b"a,b\n" + b"1,2\n" * 99_999)[:-99], "t.csv.gz"),
    ],
)
def test_a_broken_file_is_named_by_line(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(content)
    error = refused("SELECT * FROM t", t=tmp_path / name)
    assert error.code is Code.MALFORMED_DATA
    assert name in error.message
    assert says in error.message


@pytest.mark.parametrize("name", ["t.csv", "t.ndjson"])
def test_a_line_of_two_gigabytes_is_never_held(tmp_path: Path, name: str) -> None:
    with (tmp_path / name).open("wb") as file:
        file.write(b"a,b\n1,2\n" if name == "t.csv" else b'{"a": 1}\n{"a": "')
        file.truncate(2 << 30)  # a hole: takes no room on the disk
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    error = refused("SELECT * FROM t", t=tmp_path / name)
    assert "longer than" in error.message
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # KiB
    assert grown < 400 * 1024


def test_a_parquet_file_that_breaks_while_the_view_runs_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    duckdb.sql("SELECT range AS a, 'x' || range AS b FROM range(100000)").write_parquet(str(path))
    content = bytearray(path.read_bytes())
    content[1000:5000] = bytes(reversed(content[1000:5000]))
    path.write_bytes(content)
    error = refused("SELECT sum(a) AS a, max(b) AS b FROM t", t=path)
    assert (error.code, "t.parquet" in error.message) == (Code.MALFORMED_DATA, True)


def test_a_date_that_is_not_iso_stays_a_text(tmp_path: Path) -> None:
    (tmp_path / "t.ndjson").write_text('{"iso": "2020-02-01", "us": "02/01/2020"}\n')
    table = read(
        Sources(files={"t": tmp_path / "t.ndjson"}),
        "SELECT typeof(iso) AS iso, typeof(us) AS us FROM t",
    )
    assert (table["iso"][0], table["us"][0]) == ("DATE", "VARCHAR")


def test_a_table_of_many_times_the_memory_is_streamed(tmp_path: Path) -> None:
    """2 million rows of 41 bytes are read with 40 MB, and no copy of them is left anywhere."""
    path = tmp_path / "t.parquet"
    duckdb.sql("SELECT range AS id, md5(range::VARCHAR) AS text FROM range(2000000)").write_parquet(
        str(path), compression="uncompressed"
    )
    before = sorted(tmp_path.iterdir())
    table = read(
        Sources(files={"t": path}),
        "SELECT count(*) AS n, max(length(text)) AS longest FROM t",
        memory=40 << 20,
    )
    assert (table["n"][0], table["longest"][0]) == (2_000_000, 32)
    assert sorted(tmp_path.iterdir()) == before


def endless(_: duckdb.DuckDBPyConnection) -> None:
    while True:
        time.sleep(1.0)


@pytest.mark.parametrize("extras", [(), (endless,)], ids=["in the view", "before it"])
def test_a_view_that_takes_too_long_is_ended(rows: Path, extras: tuple[Extra, ...]) -> None:
    """It would run for days."""
    view = "SELECT count(*) AS n FROM range(10000000) a, range(10000000) b"
    view += " WHERE sin(a.range * b.range) > 2"
    with pytest.raises(WardroundError) as caught:
        read(Sources(files={"rows": rows}, minutes=0.02), view, extras=extras)
    assert caught.value.code is Code.CONFIGURATION
    assert "0.02 minutes" in caught.value.message


def test_one_value_that_is_larger_than_the_memory(rows: Path) -> None:
    """The engine's own limit does not hold for it: it took 4 GB where 300 MB were allowed."""
    view = "SELECT length(repeat('x', 4000000000)) AS a"
    with pytest.raises(WardroundError, match="more memory than allowed") as caught:
        read(Sources(files={"rows": rows}), view, memory=300 << 20)
    assert caught.value.code is Code.CONFIGURATION
    assert read(Sources(files={"rows": rows}), "SELECT age FROM rows")["age"].tolist() == [63, 64]


def test_a_value_set_of_the_site_replaces_the_shipped_one(tmp_path: Path) -> None:
    own = tmp_path / "own.csv"
    own.write_text(
        "name,system,code,display\nsodium,urn:lab,NA,Sodium\nours,http://loinc.org,1-8,X\n"
    )
    view = (
        "SELECT name, code, vocabulary FROM value_set WHERE name IN ('sodium', 'ours') ORDER BY 1"
    )
    table = read(Sources(value_sets=(own,)), view)
    assert table["code"].tolist() == ["1-8", "NA"]
    assert table["vocabulary"].tolist() == ["LOINC", None]
    assert "2951-2" in read(Sources(), view)["code"]
    for text, says in (("name,code\n", "line 1"), ("name,system,code,display\na,,b,\n", "line 2")):
        own.write_text(text)
        with pytest.raises(WardroundError, match=says) as caught:
            read(Sources(value_sets=(own,)), view)
        assert str(own) in caught.value.message


def test_every_shipped_code_has_a_place() -> None:
    table = read(
        Sources(),
        "SELECT count(*) AS n, count(DISTINCT name || system || code) AS different,"
        " string_agg(DISTINCT system, ' ') AS systems FROM value_set",
    )
    assert table["n"][0] == table["different"][0] > 150
    systems = str(table["systems"][0]).split()
    assert all(code_systems.spelled(system) in code_systems.known() for system in systems)


@pytest.fixture(scope="module")
def converter() -> Iterator[duckdb.DuckDBPyConnection]:
    with Session(100 << 20, 1) as session:
        units.register(session)
        yield session.connection


@pytest.mark.parametrize(
    ("value", "unit", "wanted", "analyte", "expected"),
    [
        (5.5, "mmol/L", "mg/dL", "glucose", 99.1),
        (100, "mg/dL", "mmol/L", "glucose", 5.55),
        (100, "umol/L", "mg/dL", "creatinine", 1.131),
        (1.0, "mg/dL", "umol/L", "creatinine", 88.4),
        (7, "mmol/L", "mg/dL", "bun", 19.6),
        (20, "mg/dL", "mmol/L", "urea", 3.33),
        (20, "umol/L", "mg/dL", "bilirubin", 1.169),
        (140, "meq/L", "mmol/L", "sodium", 140),
        (4.2, "mmol/L", "mg/dL", "potassium", 16.42),
        (2.4, "mmol/L", "mg/dL", "calcium", 9.62),
        (4.8, "meq/L", "mmol/L", "calcium", 2.4),
        (8.7, "mmol/L", "g/dL", "hemoglobin", 14.02),
        (140, "g/L", "g/dL", "haemoglobin", 14),
        (2, "mmol/L", "mg/dL", "lactate", 18.0),
        (40, "g/L", "g/dL", "albumin", 4),
        (602, "umol/L", "g/L", "albumin", 40),
        (98.6, "[degF]", "Cel", "temperature", 37),
        (37, "Cel", "[degF]", "temperature", 98.6),
        (310.15, "K", "Cel", "temperature", 37),
        (150, "[lb_av]", "kg", "weight", 68.04),
        (70, "[in_i]", "cm", "height", 177.8),
        (1.8, "m", "cm", "height", 180),
        (13.3, "kPa", "mm[Hg]", "pao2", 99.8),
        (0.4, "1", "%", "fio2", 40),
        (53, "mmol/mol", "%", "hba1c", 7.0),
        (5, "mmol/L", "mg/dL", "cholesterol", 193.3),
        (8000, "/uL", "10*3/uL", "wbc", 8),
        (1.2, "L", "mL", "urine_output", 1200),
        (1, "ukat/L", "U/L", "alt", 60),
        # spellings of the wards
        (5.5, "MMOL/L", "mg/dL", "glucose", 99.1),
        (101, " MG/DL ", "mmol/L", "glucose", 5.606),
        (70, "{beats}/min", "/min", "heart_rate", 70),
        (70, "bpm", "/min", "heart_rate", 70),
        (37, "°C", "Cel", "temperature", 37),
        (11, "K/uL", "10*3/uL", "wbc", 11),
        (88.4, "µmol/L", "mg/dL", "creatinine", 1.0),
        # unknown, so missing
        (5.5, "furlong", "mg/dL", "glucose", None),
        (5.5, "mm[Hg]", "mg/dL", "glucose", None),
        (5.5, None, "mg/dL", "glucose", None),
        (None, "mmol/L", "mg/dL", "glucose", None),
    ],
)
def test_units(
    converter: duckdb.DuckDBPyConnection,
    value: float | None,
    unit: str | None,
    wanted: str,
    analyte: str,
    expected: float | None,
) -> None:
    found = converter.execute(
        "SELECT in_unit(?, ?, ?, ?)", [value, unit, wanted, analyte]
    ).fetchall()[0][0]
    back = converter.execute(
        "SELECT in_unit(in_unit(?, ?, ?, ?), ?, ?, ?)",
        [value, unit, wanted, analyte, wanted, unit, analyte],
    ).fetchall()[0][0]
    if expected is None:
        assert found is None
    else:
        assert found == pytest.approx(expected, rel=2e-3)
        if unit in units.table()[analyte]:
            assert back == pytest.approx(value)


def test_a_misspelt_analyte_or_unit_is_named(rows: Path) -> None:
    error = refused("SELECT in_unit(age, 'a', 'mg/dL', 'glukose') AS g FROM rows", rows=rows)
    assert "glukose" in error.message
    assert "creatinine" in error.remedy
    error = refused("SELECT in_unit(age, 'a', 'mg/dl!', 'glucose') AS g FROM rows", rows=rows)
    assert "glucose" in error.message


def test_numpy_gets_what_sql_has(rows: Path) -> None:
    table = read(
        Sources(),
        "SELECT TIMESTAMPTZ '2020-01-01 10:00:00+02' AS tz, NULL AS nothing,"
        " 1.5::DECIMAL(4,2) AS d,"
        " '00000000-0000-0000-0000-000000000001'::UUID AS u, [1, 2] AS l, true AS t",
    )
    assert str(table["tz"][0]).startswith("2020-01-01T08:00:00")
    assert (table["d"][0], table["t"][0]) == (1.5, 1.0)
    assert table["u"][0].endswith("1")
    assert table["nothing"][0] is None or np.isnan(table["nothing"][0])


def killed_at_a_row(connection: duckdb.DuckDBPyConnection) -> None:
    def kill(value: int) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return value

    connection.create_function("kill", kill, ["BIGINT"], "BIGINT")


def test_nothing_is_left_when_a_process_is_killed_in_a_view(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of patients' rows must not outlive the process: not in the folder, not in its
    temporary one."""
    path = tmp_path / "t.parquet"
    duckdb.sql("SELECT range AS id FROM range(1000)").write_parquet(str(path))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    view = "SELECT kill(id) AS a FROM t ORDER BY 1"
    with pytest.raises(WardroundError, match="was ended"):
        read(Sources(files={"t": path}), view, extras=(killed_at_a_row,))
    assert sorted(tmp_path.iterdir()) == [scratch, path]
    assert not list(scratch.iterdir())
