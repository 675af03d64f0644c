"""A real MariaDB server of Debian's is read where it is."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import duckdb
import pytest

from client.data.sources.databases.attaching import attach
from client.data.sources.session import Session
from client.data.sources.settings import Database, Mariadb, Omop, Sources
from client.data.view_reader import read
from protocol.errors import Code, WardroundError
from tests.client.data.sources.databases.mariadb_server import PASSWORD, USER, Server


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    server.sql(
        "CREATE DATABASE secret; CREATE TABLE secret.canary SELECT 'CANARY' AS value; USE ward;"
        f" GRANT SELECT ON secret.* TO {USER};"
        "CREATE TABLE stay (patient varchar(20), age int, cost decimal(10,2), admitted datetime,"
        " seen date, number bigint unsigned) COLLATE utf8mb4_general_ci; SET sql_mode = '';"
        "INSERT INTO stay VALUES ('p1', 63, 12.5, '2020-01-01 10:00:00', '2020-01-02',"
        " 18446744073709551615), ('P1', NULL, NULL, NULL, '0000-00-00', 18446744073709551614);"
        "CREATE TABLE wide AS SELECT seq AS id, repeat('x', 200) AS text FROM seq_1_to_200000;"
        "CREATE TABLE partly (day date); INSERT INTO partly VALUES ('2020-00-00');"
        "CREATE TABLE cdm_source SELECT 'CDM v5.3.1' AS cdm_version;"
        "CREATE TABLE visit_occurrence SELECT 1 AS person_id, 8870 AS admitting_source_concept_id;"
        f"CREATE USER narrow IDENTIFIED BY '{PASSWORD}'; GRANT SELECT ON ward.stay TO narrow;"
        f"CREATE USER writer IDENTIFIED BY '{PASSWORD}'; GRANT ALL ON ward.* TO writer"
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
    mariadb = Mariadb.model_validate(
        {"host": "127.0.0.1", "port": server.port, "database": "ward", "user": USER,
         "password_file": password, "tls": "disable"} | more
    )  # fmt: skip
    return Sources(databases={"clinic": Database(mariadb=mariadb)}, minutes=1.0)


def refused(sources: Sources, view: str) -> WardroundError:
    with pytest.raises(WardroundError) as caught:
        read(sources, view)
    assert "CANARY" not in f"{caught.value}"
    assert caught.value.__cause__ is None
    return caught.value


def test_mariadb_is_read_in_place(server: Server, password: Path) -> None:
    view = (
        "SELECT patient, age, cost, hour(admitted) AS hour, CAST(seen AS VARCHAR) AS seen, number"
        " FROM clinic.stay ORDER BY patient DESC"
    )
    table = read(ward(server, password), view)
    assert table["patient"].tolist() == ["p1", "P1"]
    assert (table["age"][0], table["cost"][0], table["hour"][0]) == (63, 12.5, 10)
    assert table["seen"].tolist() == ["2020-01-02", None]  # MariaDB's 0000-00-00 is no day
    assert table["number"].tolist() == ["18446744073709551615", "18446744073709551614"]


@pytest.mark.parametrize(
    "view",
    [
        "SELECT count(*) AS n FROM clinic.stay WHERE patient = 'p1'",
        "SELECT count(*) AS n FROM clinic.stay GROUP BY patient LIMIT 1",
        "SELECT count(DISTINCT patient) - 1 AS n FROM clinic.stay",
    ],
)
def test_two_patients_are_two_whatever_the_servers_collation(
    server: Server, password: Path, view: str
) -> None:
    """For the server p1 and P1 are the same text."""
    assert server.sql("SELECT count(DISTINCT patient) FROM ward.stay") == "1"
    assert read(ward(server, password), view)["n"].tolist() == [1.0]


def test_a_unix_socket(server: Server, password: Path) -> None:
    sources = ward(server, password, host=str(server.socket))
    assert read(sources, "SELECT count(*) AS n FROM clinic.stay")["n"].tolist() == [2.0]


@pytest.mark.parametrize(
    "view",
    [
        "SELECT * FROM clinic.secret.canary",
        "SELECT * FROM clinic.information_schema.tables",
        "SELECT * FROM clinic.mysql.user",
        "SELECT * FROM mysql_query('clinic', 'SELECT * FROM secret.canary')",
        "SELECT * FROM mysql_execute('clinic', 'DELETE FROM stay')",
        "CALL mysql_execute('clinic', 'DELETE FROM stay')",
        "SELECT * FROM mysql_clear_cache()",
        "SELECT * FROM duckdb_secrets()",
        "INSERT INTO clinic.stay (patient) VALUES ('p3')",
    ],
)
def test_a_view_reads_the_tables_of_its_database_and_does_nothing_else(
    server: Server, password: Path, view: str
) -> None:
    assert refused(ward(server, password), view).code is Code.CONFIGURATION
    assert server.sql("SELECT count(*) FROM ward.stay") == "2"


def test_it_is_attached_read_only_whatever_the_user_may(server: Server, password: Path) -> None:
    with Session(1 << 30, 1) as session:
        attach(session, "clinic", ward(server, password, user="writer").databases["clinic"], 60)
        with pytest.raises(duckdb.Error, match="read-only"):
            session.connection.execute("INSERT INTO clinic.stay (patient) VALUES ('p3')")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"database": "CANARY"}, "does not let this user read this database"),
        ({"user": "CANARY"}, "refuses this user's password"),
        ({"host": "/nowhere"}, "does not answer"),
        ({"port": 9}, "does not answer"),
        ({"host": "no-such-host.invalid"}, "host name that nobody knows"),
        ({"tls": "require"}, "does not agree on TLS"),
    ],
)
def test_a_server_that_does_not_let_us_in_is_named(
    server: Server, password: Path, change: dict[str, str], says: str
) -> None:
    error = refused(ward(server, password, **change), "SELECT 1 AS a")
    assert error.code is Code.NO_DATA
    assert "clinic" in error.message
    assert says in error.message


def test_a_table_that_the_user_may_not_read_is_not_there(server: Server, password: Path) -> None:
    error = refused(ward(server, password, user="narrow"), "SELECT * FROM clinic.wide")
    assert (error.code, "wide" in error.message) == (Code.CONFIGURATION, True)


def test_a_day_that_is_none_is_named(server: Server, password: Path) -> None:
    error = refused(ward(server, password), "SELECT day FROM clinic.partly")
    assert error.code is Code.MALFORMED_DATA
    assert "clinic" in error.message


def stopping(connection: duckdb.DuckDBPyConnection, pid: int) -> None:
    """stop(id) is called once a row, from inside the scan."""

    def stop(value: int) -> int:
        if value == 1:
            os.kill(pid, signal.SIGKILL)
        return value

    connection.create_function("stop", stop, ["BIGINT"], "BIGINT")


def test_a_server_that_goes_away_while_a_view_runs(server: Server, password: Path) -> None:
    view = "SELECT max(stop(id::BIGINT)) AS m, max(text) AS t FROM clinic.wide"
    try:
        with pytest.raises(WardroundError, match="went away") as caught:
            read(ward(server, password), view, extras=(partial(stopping, pid=server.pid),))
    finally:
        server.stop()
        server.start()
    assert caught.value.code is Code.NO_DATA
    assert read(ward(server, password), "SELECT count(*) AS n FROM clinic.stay")["n"][0] == 2


def test_an_omop_cdm_of_5_3(server: Server, password: Path) -> None:
    sources = ward(server, password).model_copy(update={"omop": Omop(database="clinic")})
    view = "SELECT admitted_from_concept_id AS a FROM visit_occurrence"
    assert read(sources, view)["a"].tolist() == [8870.0]
