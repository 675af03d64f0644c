"""A view that tries to get out. Each attempt is run as a site would run it, and is refused; and
each is run again behind the second wall alone, without the check of its text: what it gives then
holds no secret, and nothing is written."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from client.data.limited_process import ProcessEndedError, limited
from client.data.sources.databases.attaching import attach
from client.data.sources.files.tables import register
from client.data.sources.session import Session
from client.data.sources.settings import Database, Sources
from client.data.view_reader import read
from protocol.errors import Code, WardroundError

FILES = (
    "SELECT * FROM '{other}'",
    'SELECT * FROM "{other}"',
    "SELECT * FROM read_csv('{other}')",
    "SELECT * FROM read_csv_auto('{other}')",
    "SELECT * FROM read_csv(['{other}', '{other}'])",
    "SELECT * FROM read_csv('{folder}/*.csv')",
    "SELECT * FROM read_csv('{file}')",
    "SELECT * FROM read_text('{other}')",
    "SELECT * FROM read_blob('{other}')",
    "SELECT * FROM read_json('{other}')",
    "SELECT * FROM read_json_auto('{other}')",
    "SELECT * FROM read_json_objects('{other}')",
    "SELECT * FROM read_json_objects_auto('{other}')",
    "SELECT * FROM read_ndjson('{other}')",
    "SELECT * FROM read_ndjson_objects('{other}')",
    "SELECT * FROM read_parquet('{other}')",
    "SELECT * FROM parquet_scan('{other}')",
    "SELECT * FROM parquet_metadata('{other}')",
    "SELECT * FROM parquet_schema('{other}')",
    "SELECT * FROM parquet_kv_metadata('{other}')",
    "SELECT * FROM parquet_full_metadata('{other}')",
    "SELECT * FROM sniff_csv('{other}')",
    "SELECT * FROM glob('{folder}/*')",
    "SELECT * FROM read_text('/proc/self/environ')",
    "SELECT * FROM read_text('/proc/self/fd/0')",
    "SELECT * FROM read_text('file://{other}')",
    "SELECT * FROM read_text('{folder}/../{folder_name}/other.csv')",
    "SELECT * FROM 'http://127.0.0.1:9/x.parquet'",
    "SELECT * FROM 's3://bucket/x.parquet'",
    "SELECT * FROM arrow_scan(1, 2, 3)",
    "SELECT * FROM pandas_scan(1)",
    "SELECT * FROM python_map_function(1)",
    "SELECT * FROM sqlite_scan('{clinic}', 'secret')",
    "SELECT * FROM sqlite_query('clinic', 'SELECT * FROM secret')",
    "SELECT * FROM sqlite_attach('{clinic}')",
    "SELECT * FROM postgres_scan('host=127.0.0.1', 'public', 't')",
    "SELECT * FROM postgres_query('clinic', 'SELECT 1')",
    "SELECT * FROM mysql_scan('host=127.0.0.1', 'db', 't')",
    "SELECT * FROM mysql_query('clinic', 'SELECT 1')",
    "SELECT * FROM seq_scan('rows')",
)
STATEMENTS = (
    "ATTACH '{folder}/written.db' AS x",
    "ATTACH '{clinic}' AS x (TYPE sqlite)",
    "DETACH clinic",
    "USE clinic",
    "COPY rows TO '{folder}/written.csv'",
    "COPY (SELECT 1) TO '{folder}/written.parquet'",
    "COPY rows FROM '{other}'",
    "COPY FROM DATABASE memory TO clinic",
    "EXPORT DATABASE '{folder}/written'",
    "IMPORT DATABASE '{folder}'",
    "INSTALL httpfs",
    "INSTALL httpfs FROM community",
    "FORCE INSTALL httpfs",
    "LOAD httpfs",
    "LOAD '{other}'",
    "UPDATE EXTENSIONS",
    "SET enable_external_access = true",
    "SET VARIABLE x = 1",
    "RESET allowed_paths",
    "PRAGMA database_list",
    "PRAGMA enable_profiling = 'json'",
    "PRAGMA profiling_output = '{folder}/written.json'",
    "CALL pragma_version()",
    "CREATE TABLE x AS SELECT 1",
    "CREATE TABLE clinic.x AS SELECT 1",
    "CREATE OR REPLACE VIEW rows AS SELECT 1",
    "CREATE MACRO m() AS 1",
    "CREATE SECRET s (TYPE s3)",
    "CREATE SEQUENCE s",
    "CREATE TYPE t AS ENUM ('a')",
    "INSERT INTO rows VALUES ('p3', 1)",
    "INSERT INTO clinic.stay VALUES ('p3')",
    "UPDATE rows SET age = 1",
    "DELETE FROM rows RETURNING *",
    "DROP TABLE rows",
    "ALTER TABLE rows ADD COLUMN x INTEGER",
    "TRUNCATE rows",
    "MERGE INTO rows USING rows AS r ON true WHEN MATCHED THEN DELETE",
    "BEGIN TRANSACTION",
    "COMMIT",
    "ROLLBACK",
    "CHECKPOINT",
    "VACUUM",
    "ANALYZE",
    "EXPLAIN SELECT * FROM rows",
    "EXPLAIN ANALYZE SELECT * FROM rows",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "DEALLOCATE p",
    "DESCRIBE rows",
    "SHOW TABLES",
    "SHOW ALL TABLES",
    "SUMMARIZE rows",
    "COMMENT ON TABLE rows IS 'x'",
    "KILL 1",
    "",
    "not SQL",
)
SEVERAL = (
    "SELECT * FROM rows; SELECT * FROM rows",
    "SELECT * FROM rows; DROP TABLE rows",
    "SELECT * FROM rows; COPY rows TO '{folder}/written.csv'",
    "SELECT 1 AS a;; ATTACH '{folder}/written.db' AS x",
    "/* ; */ SELECT 1 AS a; -- ;\nINSTALL httpfs",
    "SELECT ';' AS a; SET threads = 64",
)
FUNCTIONS = (
    "SELECT getenv('WARDROUND_CANARY') AS a",
    "SELECT \"getenv\"('WARDROUND_CANARY') AS a",
    "SELECT GETENV('WARDROUND_CANARY') AS a",
    "SELECT main.getenv('WARDROUND_CANARY') AS a",
    "SELECT system.main.getenv('WARDROUND_CANARY') AS a",
    "SELECT getvariable('x') AS a",
    "SELECT current_setting('allowed_paths') AS a",
    "SELECT \"current_setting\"('allowed_paths') AS a",
    "SELECT 'allowed_paths'.current_setting() AS a",
    "SELECT list_transform(['allowed_paths'], x -> current_setting(x)) AS a",
    "SELECT list_transform(['allowed_paths'], lambda x: current_setting(x)) AS a",
    "SELECT age FROM rows ORDER BY current_setting('allowed_paths')",
    "SELECT age FROM rows GROUP BY ALL HAVING current_query() IS NOT NULL",
    "SELECT row_number() OVER (ORDER BY current_query()) AS a FROM rows",
    "SELECT max(age) FILTER (current_query() IS NULL) AS a FROM rows",
    "SELECT CASE WHEN true THEN current_query() END AS a",
    "SELECT {{'a': current_query()}} AS a",
    "SELECT [current_query()] AS a",
    "SELECT age FROM rows LIMIT (SELECT length(current_query()))",
    "SELECT current_database() AS a",
    "SELECT current_schemas(true) AS a",
    "SELECT error('CANARY') AS a",
    "SELECT write_log('CANARY') AS a",
    "SELECT sleep_ms(1) AS a",
    "SELECT nextval('s') AS a",
    "SELECT json_execute_serialized_sql('{{}}') AS a",
    "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "SELECT * FROM query('SELECT * FROM rows')",
    "SELECT * FROM query_table('rows')",
    "SELECT * FROM query_table(['rows', 'rows'])",
    "SELECT which_secret('x', 's3') AS a",
    "SELECT in_search_path('memory', 'main') AS a",
    "SELECT pg_get_viewdef(1) AS a",
    "SELECT stats(age) AS a FROM rows",
    "SELECT sql_auto_complete('SEL') AS a",
)
CATALOGUES = (
    "SELECT * FROM duckdb_settings()",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM duckdb_databases()",
    "SELECT * FROM duckdb_views()",
    "SELECT * FROM duckdb_views",
    "SELECT * FROM duckdb_logs",
    "SELECT * FROM duckdb_temporary_files()",
    "SELECT * FROM duckdb_external_file_cache()",
    "SELECT * FROM pragma_table_info('rows')",
    "SELECT * FROM pragma_storage_info('rows')",
    "SELECT * FROM pragma_database_size()",
    "SELECT * FROM information_schema.tables",
    'SELECT * FROM "information_schema"."tables"',
    "SELECT * FROM system.information_schema.tables",
    "SELECT * FROM pg_catalog.pg_views",
    "SELECT * FROM sqlite_master",
    "SELECT * FROM main.sqlite_master",
    "SELECT * FROM temp.sqlite_temp_master",
    "SELECT * FROM clinic.sqlite_master",
    "SELECT * FROM clinic.information_schema.tables",
    "SELECT * FROM clinic.pg_catalog.pg_tables",
    "SELECT * FROM (SHOW TABLES)",
    "SELECT * FROM (DESCRIBE rows)",
    "SELECT * FROM (SUMMARIZE rows)",
    "SELECT * FROM (SHOW ALL TABLES)",
    "SELECT * FROM test_all_types()",
    "SELECT * FROM repeat_row(1, 2, num_rows=3)",
    "SELECT * FROM summary((SELECT 1))",
    "SELECT * FROM checkpoint()",
)
NESTED = (
    "WITH a AS (SELECT * FROM read_text('{other}')) SELECT * FROM a",
    "WITH a AS MATERIALIZED (SELECT * FROM glob('{folder}/*')) SELECT * FROM a",
    "WITH RECURSIVE a AS (SELECT 1 AS n UNION ALL SELECT length(content) FROM read_text('{other}'))"
    " SELECT * FROM a",
    "SELECT (SELECT max(content) FROM read_text('{other}')) AS a FROM rows",
    "SELECT age FROM rows WHERE EXISTS (SELECT 1 FROM read_text('{other}'))",
    "SELECT age FROM rows WHERE patient IN (SELECT content FROM read_text('{other}'))",
    "SELECT age FROM rows UNION ALL SELECT length(content) FROM read_text('{other}')",
    "SELECT * FROM rows, LATERAL (SELECT * FROM read_text('{other}'))",
    "SELECT * FROM rows POSITIONAL JOIN read_text('{other}')",
    "FROM (PIVOT (SELECT * FROM read_text('{other}')) ON filename USING max(content))",
    "SELECT * FROM rows WHERE age = ANY (SELECT size FROM read_text('{other}'))",
    "SELECT [x.content FOR x IN (SELECT list(r) FROM read_text('{other}') r)] AS a",
    "WITH x AS (INSERT INTO rows VALUES ('p3', 1) RETURNING *) SELECT * FROM x",
    "WITH \"{other}\" AS (SELECT 1 AS a) SELECT * FROM '{other}'",
    "SELECT * FROM (VALUES (1)) AS v(a), '{other}'",
    "FROM '{other}'",
    "TABLE '{other}'",
    "SELECT * FROM rows AS OF (SELECT 1)",
    "SELECT " + "abs(" * 3000 + "1" + ")" * 3000 + " AS a",
    "SELECT " + "(SELECT " * 600 + "1" + ")" * 600 + " AS a",
    "SELECT * FROM " + "(SELECT * FROM " * 400 + "read_text('{other}')" + ")" * 400,
)
TEXTS = (
    "SELECT * FROM \x00",
    "SELECT '\x00' AS a; SELECT * FROM read_text('{other}')",
    "SELECT '\ud800' AS a",
    "\ud800",
    "SELECT * FROM \"\udcff\"",
    "SELECT * FROM read_text('{other}\x00')",
    "SELECT * FROM \uff52ead_text('{other}')",
    "SELECT * FROM READ_TEXT ( '{other}' )",
    "SELECT * FROM \"read_text\"('{other}')",
    "SELECT * FROM read_text(E'\\x2f')",
    "SELECT * FROM read_text($$/etc/passwd$$)",
    "SELECT * FROM read_text($1)",
    "SELECT $x AS a",
    "\ufeffSELECT * FROM read_text('{other}')",
    "SELECT\u00a0*\u00a0FROM read_text('{other}')",
)  # fmt: skip
ATTEMPTS = (*FILES, *STATEMENTS, *SEVERAL, *FUNCTIONS, *CATALOGUES, *NESTED, *TEXTS)
CANARY = "CANARY-0f3a"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Secrets around the one table that a view may read, and the database with one table it may."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "rows.csv").write_text("patient,age\np1,63\np2,64\n")
    (folder / "other.csv").write_text(f"secret\n{CANARY}\n")
    with sqlite3.connect(folder / "clinic.db") as clinic:
        clinic.execute("CREATE TABLE stay (patient TEXT)")
    with sqlite3.connect(folder / "beside.db") as beside:
        beside.execute(f"CREATE TABLE secret AS SELECT '{CANARY}' AS value")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WARDROUND_CANARY", CANARY)
        yield folder


def attempt(text: str, place: Path) -> str:
    """The text with its places filled in; one with other braces stays as it is."""
    names = {
        "other": place / "other.csv", "file": place / "rows.csv", "clinic": place / "beside.db",
        "folder": place, "folder_name": place.name,
    }  # fmt: skip
    for name, value in names.items():
        text = text.replace("{" + name + "}", str(value))
    return text.replace("{{", "{").replace("}}", "}")


def lying_there(place: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def test_there_are_many_and_no_two_are_the_same() -> None:
    assert len(set(ATTEMPTS)) == len(ATTEMPTS) >= 85


@pytest.mark.parametrize("text", ATTEMPTS, ids=range(len(ATTEMPTS)))
def test_an_attempt_is_refused(place: Path, text: str) -> None:
    sources = Sources(
        files={"rows": place / "rows.csv"},
        databases={"clinic": Database(sqlite=place / "clinic.db")},
        minutes=1.0,
    )
    before = lying_there(place)
    with pytest.raises(WardroundError) as caught:
        read(sources, attempt(text, place), memory=500 << 20)
    assert caught.value.code is Code.CONFIGURATION
    assert CANARY not in f"{caught.value}{caught.value.__context__!r}"
    assert lying_there(place) == before


def behind_the_second_wall(place: Path, view: str) -> str:
    """All rows of all statements, or the engine's own error."""
    with Session(500 << 20, 1) as session:
        register(session, "rows", place / "rows.csv")
        attach(session, "clinic", Database(sqlite=place / "clinic.db"), 60.0)
        session.lock()
        try:
            return repr(session.connection.execute(view).fetchall())
        except (duckdb.Error, UnicodeError, TypeError, AttributeError) as error:
            return type(error).__name__


BY_THE_FIRST_WALL_ALONE = ("sqlite_scan('{clinic}'", "sqlite_attach", "sqlite_query")
"""sqlite_scan opens any file, whatever DuckDB is told to allow: the reason for the first wall."""


@pytest.mark.parametrize("text", ATTEMPTS, ids=range(len(ATTEMPTS)))
def test_an_attempt_gives_no_secret_behind_the_second_wall_either(place: Path, text: str) -> None:
    if any(name in text for name in BY_THE_FIRST_WALL_ALONE):
        return
    before = lying_there(place)
    try:
        given = limited(behind_the_second_wall, 2 << 30, 60.0, place, attempt(text, place))
    except ProcessEndedError:
        given = ""
    assert CANARY not in given
    assert lying_there(place) == before
