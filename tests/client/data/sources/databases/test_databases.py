"""Databases are read where they are: SQLite files, and a real PostgreSQL server of Debian's."""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import duckdb
import numpy as np
import pytest

from client.data.sources.databases.attaching import attach
from client.data.sources.session import Session
from client.data.sources.settings import Database, Omop, Postgres, Sources
from client.data.view_reader import read
from protocol.errors import Code, WardroundError
from tests.client.data.sources.databases.postgres_server import PASSWORD, USER, Server


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    server.sql(
        "CREATE TABLE stay (patient text, age int, cost numeric(10,2), admitted timestamptz,"
        " seen date, note jsonb);"
        "INSERT INTO stay VALUES ('p1', 63, 12.50, '2020-01-01 10:00+02', '2020-01-02', '{}'),"
        " ('p2', NULL, NULL, NULL, NULL, NULL);"
        "CREATE TABLE wide AS SELECT g AS id, repeat('x', 200) AS text"
        " FROM generate_series(1, 200000) g;"
        "CREATE SCHEMA secret; CREATE TABLE secret.canary AS SELECT 'CANARY' AS value;"
        "CREATE SCHEMA cdm;"
        "CREATE TABLE cdm.cdm_source AS SELECT 'CDM v5.4.1'::text AS cdm_version;"
        "CREATE TABLE cdm.person AS SELECT 1::bigint AS person_id, 1950 AS year_of_birth;"
        "CREATE SCHEMA old; CREATE TABLE old.cdm_source AS SELECT 'v5.2.2'::text AS cdm_version;"
        "CREATE TABLE old.person AS SELECT 1::bigint AS person_id;"
    )
    yield server
    server.remove()


@pytest.fixture
def password(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(PASSWORD + "\n")
    path.chmod(0o600)
    return path


def ward(server: Server, password: Path | None, **more: object) -> Sources:
    postgres = Postgres.model_validate(
        {"host": str(server.folder), "database": "postgres", "user": USER,
         "password_file": password, "tls": "disable"} | more
    )  # fmt: skip
    return Sources(databases={"ward": Database(postgres=postgres)}, minutes=1.0)


def refused(sources: Sources, view: str) -> WardroundError:
    with pytest.raises(WardroundError) as caught:
        read(sources, view)
    assert "CANARY" not in f"{caught.value}"
    assert caught.value.__cause__ is None
    return caught.value


def test_postgresql_is_read_in_place(server: Server, password: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("patient,died\np1,1\np2,0\n")
    sources = ward(server, password).model_copy(
        update={"files": {"labels": tmp_path / "labels.csv"}}
    )
    table = read(
        sources,
        "SELECT s.*, l.died FROM ward.stay s JOIN labels l USING (patient) ORDER BY patient",
    )
    assert table["patient"].tolist() == ["p1", "p2"]
    np.testing.assert_array_equal(table["age"], [63, np.nan])
    np.testing.assert_array_equal(table["cost"], [12.5, np.nan])
    assert str(table["admitted"][0]).startswith("2020-01-01T08:00:00")
    assert table["died"].tolist() == [1.0, 0.0]
    assert read(sources, "SELECT count(*) AS n FROM ward.public.stay")["n"].tolist() == [2.0]


@pytest.mark.parametrize(
    "view",
    [
        "SELECT * FROM ward.secret.canary",
        "SELECT * FROM ward.pg_catalog.pg_authid",
        "SELECT * FROM ward.information_schema.tables",
        "SELECT * FROM postgres_query('ward', 'SELECT * FROM secret.canary')",
        "SELECT * FROM postgres_scan('', 'secret', 'canary')",
        "SELECT * FROM postgres_scan_pushdown('', 'secret', 'canary')",
        "SELECT * FROM read_postgres_binary('/etc/passwd')",
        "CALL postgres_execute('ward', 'CREATE TABLE t (a int)')",
        "CALL pg_clear_cache()",
        "SELECT * FROM duckdb_secrets()",
        "SELECT * FROM duckdb_databases()",
        "SELECT path FROM duckdb_databases",
        "INSERT INTO ward.stay (patient) VALUES ('p3')",
        "CREATE TABLE ward.t AS SELECT 1 AS a",
        "ATTACH 'host=/tmp' AS other (TYPE postgres)",
        "DETACH ward",
        "USE ward",
        "SHOW ALL TABLES",
        "SELECT * FROM (SHOW ALL TABLES)",
        "SELECT * FROM (DESCRIBE ward.stay)",
        "SUMMARIZE ward.stay",
    ],
)
def test_a_view_reads_the_tables_of_its_schema_and_does_nothing_else(
    server: Server, password: Path, view: str
) -> None:
    assert refused(ward(server, password), view).code is Code.CONFIGURATION
    assert server.sql("SELECT count(*) FROM stay") == "2"


def test_the_servers_own_session_may_only_read(server: Server, password: Path) -> None:
    """The second wall: were a write to get past the view's check, the server would refuse it."""
    with Session(1 << 30, 1) as session:
        attach(session, "ward", ward(server, password).databases["ward"], 60)
        for write in (
            "INSERT INTO ward.stay (patient) VALUES ('p3')",
            "CALL postgres_execute('ward', 'INSERT INTO stay (patient) VALUES (''p3'')')",
        ):
            with pytest.raises(duckdb.Error, match="read-only"):
                session.connection.execute(write)
    assert server.sql("SELECT count(*) FROM stay") == "2"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"database": "CANARY"}, "does not have this database"),
        ({"user": "CANARY"}, "refuses this user's password"),
        ({"host": "/nowhere"}, "does not answer"),
        ({"host": "no-such-host.invalid"}, "host name that nobody knows"),
    ],
)
def test_a_server_that_does_not_let_us_in_is_named(
    server: Server, password: Path, change: dict[str, str], says: str
) -> None:
    error = refused(ward(server, password, **change), "SELECT 1 AS a")
    assert error.code is Code.NO_DATA
    assert "ward" in error.message
    assert re.search(says, error.message)


def test_a_wrong_password_is_not_told(server: Server, password: Path) -> None:
    password.write_text("CANARY-wrong")
    assert "password" in refused(ward(server, password), "SELECT 1 AS a").message


@pytest.mark.parametrize(("mode", "text"), [(0o644, PASSWORD), (0o600, ""), (0o600, "a\nb")])
def test_a_password_file_that_others_can_read_is_refused(
    server: Server, password: Path, mode: int, text: str
) -> None:
    password.write_text(text)
    password.chmod(mode)
    error = refused(ward(server, password), "SELECT 1 AS a")
    assert error.code is Code.CREDENTIALS
    assert str(password) in error.message


def test_libpq_may_know_the_password_itself(
    server: Server, password: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    assert read(ward(server, None), "SELECT count(*) AS n FROM ward.stay")["n"].tolist() == [2.0]


def stopping(connection: duckdb.DuckDBPyConnection, server: Server) -> None:
    """slow(id) is called once a row, from inside the scan: it stops the server at the first."""
    stopped = threading.Event()

    def stop(value: int) -> int:
        if not stopped.is_set():
            stopped.set()
            server.stop()
        return value

    connection.create_function("slow", stop, ["INTEGER"], "INTEGER")


def test_a_server_that_goes_away_while_a_view_runs(server: Server, password: Path) -> None:
    stop = partial(stopping, server=server)
    try:
        with pytest.raises(WardroundError, match="went away") as caught:
            read(
                ward(server, password),
                "SELECT max(slow(id)) AS m, max(text) AS t FROM ward.wide",
                extras=(stop,),
            )
    finally:
        server.start()
    assert caught.value.code is Code.NO_DATA
    assert read(ward(server, password), "SELECT count(*) AS n FROM ward.stay")["n"][0] == 2


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("'infinity'::timestamp", "column a holds an infinite"),
        ("'-infinity'::timestamptz", "column a holds an infinite"),
        ("'infinity'::date", "result holds an infinite"),
    ],
)
def test_an_infinite_time_is_named(server: Server, password: Path, value: str, says: str) -> None:
    """PostgreSQL has it for "without end"; as a time it would be one of the year 294247."""
    server.sql(f"CREATE OR REPLACE VIEW endless AS SELECT {value} AS a")
    error = refused(ward(server, password), "SELECT a FROM ward.endless")
    server.sql("DROP VIEW endless")
    assert (error.code, says in error.message) == (Code.MALFORMED_DATA, True)
    assert "isfinite" in error.remedy


def test_a_table_that_the_user_may_not_read_is_named(server: Server, password: Path) -> None:
    server.sql(
        f"CREATE ROLE narrow LOGIN PASSWORD '{PASSWORD}'; GRANT USAGE ON SCHEMA secret TO narrow"
    )
    sources = ward(server, password, user="narrow", schema="secret")
    error = refused(sources, "SELECT * FROM ward.canary")
    server.sql("DROP OWNED BY narrow; DROP ROLE narrow")
    assert (error.code, "may not read canary" in error.message) == (Code.NO_DATA, True)
    assert "GRANT SELECT ON canary" in error.remedy


def test_an_omop_cdm_in_a_schema(server: Server, password: Path) -> None:
    sources = ward(server, password, schema="cdm").model_copy(
        update={"omop": Omop(database="ward")}
    )
    assert read(sources, "SELECT person_id FROM person")["person_id"].tolist() == [1.0]
    error = refused(sources, "SELECT * FROM measurement")
    assert (error.code, "measurement" in error.message) == (Code.NO_DATA, True)
    old = ward(server, password, schema="old").model_copy(update={"omop": Omop(database="ward")})
    error = refused(old, "SELECT * FROM person")
    assert (error.code, "version 5.2" in error.message) == (Code.MALFORMED_DATA, True)


@pytest.fixture
def clinic(tmp_path: Path) -> Path:
    path = tmp_path / "clinic.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE stay (patient TEXT, age INTEGER)")
        database.execute("INSERT INTO stay VALUES ('p1', 63), ('p2', NULL)")
    return path


def test_sqlite_is_read_in_place(clinic: Path) -> None:
    sources = Sources(databases={"clinic": Database(sqlite=clinic)})
    before = clinic.read_bytes(), sorted(clinic.parent.iterdir())
    table = read(sources, "SELECT * FROM clinic.stay ORDER BY patient")
    np.testing.assert_array_equal(table["age"], [63, np.nan])
    assert (clinic.read_bytes(), sorted(clinic.parent.iterdir())) == before


@pytest.mark.parametrize(
    "view",
    [
        "SELECT * FROM sqlite_scan('{other}', 'canary')",
        "SELECT * FROM sqlite_query('clinic', 'SELECT 1')",
        "SELECT * FROM sqlite_query('clinic', 'ATTACH ''{other}'' AS o')",
        "CALL sqlite_attach('{other}')",
        "ATTACH '{other}' AS o (TYPE sqlite)",
        "SELECT * FROM '{other}'",
        'SELECT * FROM "{other}".canary',
        "SELECT * FROM o.canary",
        "WITH \"{other}\" AS (SELECT 1) SELECT * FROM (SELECT * FROM '{other}')",
        "SELECT * FROM clinic.sqlite_master",
        "UPDATE clinic.stay SET age = 1",
        "SELECT * FROM clinic.stay; UPDATE clinic.stay SET age = 1",
    ],
)
def test_a_view_over_sqlite_reaches_no_other_file(clinic: Path, view: str) -> None:
    other = clinic.parent / "other.db"
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE canary AS SELECT 'CANARY' AS value")
    sources = Sources(databases={"clinic": Database(sqlite=clinic)})
    assert refused(sources, view.format(other=other)).code is Code.CONFIGURATION


def test_what_is_no_sqlite_file_is_named(tmp_path: Path) -> None:
    def sources(name: str) -> Sources:
        return Sources(databases={"clinic": Database(sqlite=tmp_path / name)})

    (tmp_path / "text.db").write_text("CANARY")
    (tmp_path / "cut.db").write_bytes(b"SQLite format 3\0CANARY")
    assert refused(sources("absent.db"), "SELECT 1 AS a").code is Code.NO_DATA
    for name in ("text.db", "cut.db"):
        error = refused(sources(name), "SELECT * FROM clinic.stay")
        assert error.code is Code.MALFORMED_DATA
        assert name in error.message


def test_a_column_that_holds_another_type_than_it_declares_is_named(clinic: Path) -> None:
    with sqlite3.connect(clinic) as database:
        database.execute("INSERT INTO stay VALUES ('p3', 'CANARY')")
    sources = Sources(databases={"clinic": Database(sqlite=clinic)})
    error = refused(sources, "SELECT * FROM clinic.stay")
    assert (error.code, "age" in error.message) == (Code.MALFORMED_DATA, True)


@pytest.mark.parametrize(
    "body",
    [
        "SELECT age / 2 AS half FROM stay",
        "SELECT count(*) AS n, date(patient) AS day FROM stay",
        "SELECT * FROM gone",
    ],
)
def test_a_view_of_sqlite_is_refused_and_its_tables_are_read(clinic: Path, body: str) -> None:
    """DuckDB would compute it by other rules (63 / 2 is 31 to SQLite), or can't compute it."""
    with sqlite3.connect(clinic) as database:
        database.execute("CREATE TABLE gone (a)")
        database.execute(f"CREATE VIEW Derived AS {body}")
        database.execute("DROP TABLE gone")
    sources = Sources(databases={"clinic": Database(sqlite=clinic)})
    assert read(sources, "SELECT count(*) AS n FROM clinic.stay")["n"].tolist() == [2.0]
    for name in ("clinic.derived", "clinic.main.derived", '"CLINIC"."DERIVED"'):
        error = refused(sources, f"SELECT * FROM {name}")
        assert (error.code, "view of SQLite" in error.message) == (Code.CONFIGURATION, True)


def test_a_table_of_a_cdm_that_is_a_view_of_sqlite_is_refused(clinic: Path) -> None:
    with sqlite3.connect(clinic) as database:
        database.execute("CREATE TABLE cdm_source AS SELECT 'v5.4' AS cdm_version")
        database.execute("CREATE VIEW person AS SELECT 1 AS person_id")
    sources = Sources(databases={"clinic": Database(sqlite=clinic)}, omop=Omop(database="clinic"))
    error = refused(sources, "SELECT * FROM person")
    assert (error.code, "clinic.person" in error.message) == (Code.CONFIGURATION, True)


def test_a_column_without_a_type_is_decoded(clinic: Path) -> None:
    """What an expression makes has no type in SQLite, and comes as bytes."""
    with sqlite3.connect(clinic) as database:
        database.execute("CREATE TABLE made AS SELECT patient || '-007' AS who FROM stay")
        database.execute("CREATE TABLE bare (number)")
        database.execute("INSERT INTO bare VALUES ('007'), (7)")
    sources = Sources(databases={"clinic": Database(sqlite=clinic)})
    assert read(sources, "SELECT who FROM clinic.made")["who"].tolist() == ["p1-007", "p2-007"]
    assert read(sources, "SELECT number FROM clinic.bare")["number"].tolist() == ["007", "7"]


def test_a_day_that_is_none_is_named(clinic: Path) -> None:
    with sqlite3.connect(clinic) as database:
        database.execute("CREATE TABLE seen (day DATE)")
        database.execute("INSERT INTO seen VALUES ('2020-02-30')")
    error = refused(
        Sources(databases={"clinic": Database(sqlite=clinic)}), "SELECT * FROM clinic.seen"
    )
    assert (error.code, "a date or time that is none" in error.message) == (
        Code.MALFORMED_DATA,
        True,
    )
    assert "02-30" not in str(error)
