"""Databases attached read-only: SQLite files and PostgreSQL servers, through DuckDB's extensions.

Nothing of DuckDB's or libpq's messages is passed on: they repeat the connection's parameters.
"""

from __future__ import annotations

import re
from pathlib import Path

import duckdb

from client.data.sources.session import Session, literal, quoted, unreadable
from client.data.sources.settings import Database, Postgres
from protocol.errors import Code, WardroundError
from protocol.secret_files import read_secret

_CONNECT_SECONDS = 10
_REASONS = {
    "password": "refuses this user's password",
    "no pg_hba.conf entry": "does not let this user in from this machine",
    'role "': "does not know this user",
    'database "': "does not have this database",
    "SSL": "does not agree on TLS",
    "certificate": "does not agree on TLS",
    "refused": "does not answer",
    "timeout": "does not answer in time",
    "No such file": "does not answer",
    "translate host name": "has a host name that nobody knows",
}
"""What libpq's message contains -> the reason, in words that repeat nothing; the first counts."""
_LOST_CONNECTION = (
    "terminating connection", "server closed the connection", "connection to server",
    "no connection to the server", "could not receive data", "could not send data",
    "Connection refused", "Unable to connect", "database disk image is malformed",
    "disk I/O error", "the database system is",
)  # fmt: skip


def attach(session: Session, name: str, database: Database, seconds: float) -> None:
    """The database under its name: its tables are `name.table`.

    seconds: the limit for one query, set as the server's statement_timeout too.
    Raises WardroundError: NO_DATA where the file or server is not there or does not let us in,
    MALFORMED_DATA for a file that is no database, CREDENTIALS for a password file that others
    may read, CONFIGURATION where the extension is missing.
    """
    if database.sqlite is not None:
        _attach_sqlite(session, name, database.sqlite)
    elif database.postgres is not None:
        _attach_postgres(session, name, database.postgres, seconds)


def _attach_sqlite(session: Session, name: str, path: Path) -> None:
    try:
        with path.open("rb") as file:
            magic = file.read(16)
    except OSError as error:
        remedy = f"Correct databases.{name}.sqlite in site.yaml, or the file's permissions."
        raise unreadable(path, error, remedy) from None
    broken = WardroundError(
        Code.MALFORMED_DATA,
        f"{path} is not a SQLite database, or a damaged one.",
        remedy="Try `PRAGMA integrity_check` in the sqlite3 shell.",
    )
    if magic != b"SQLite format 3\0":
        raise broken
    session.load("sqlite_scanner")
    try:
        session.connection.execute(
            f"ATTACH {literal(str(path))} AS {quoted(name)} (TYPE sqlite, READ_ONLY)"
        )
        session.connection.execute(
            "SELECT count(*) FROM duckdb_tables() WHERE database_name = ?", [name]
        ).fetchall()
    except duckdb.Error:
        raise broken from None
    session.databases[name] = "main"


def _attach_postgres(session: Session, name: str, server: Postgres, seconds: float) -> None:
    parameters: dict[str, object] = {
        "host": server.host,
        "port": server.port,
        "dbname": server.database,
        "user": server.user,
        "sslmode": server.tls,
        "connect_timeout": _CONNECT_SECONDS,
        "application_name": "wardround",
        "keepalives_idle": 30,
        "tcp_user_timeout": 30_000,
        "options": "-c default_transaction_read_only=on"
        f" -c statement_timeout={max(1, int(1000 * seconds))}",
    }
    if server.root_certificate:
        parameters["sslrootcert"] = server.root_certificate
    session.load("postgres_scanner")
    file = server.password_file
    login = f"TYPE postgres, PASSWORD {literal(_password(file))}" if file else "TYPE postgres"
    session.connection.execute(f"CREATE TEMPORARY SECRET {quoted(name)} ({login})")
    text = " ".join(f"{key}={_parameter(value)}" for key, value in parameters.items())
    options = f"SCHEMA {literal(server.table_schema)}, SECRET {quoted(name)}"
    try:
        session.connection.execute(
            f"ATTACH {literal(text)} AS {quoted(name)} (TYPE postgres, READ_ONLY, {options})"
        )
    except duckdb.Error as error:
        message = str(error).partition('": ')[2] or str(error)  # what follows the parameters
        reasons = [reason for sign, reason in _REASONS.items() if sign in message]
        raise WardroundError(
            Code.NO_DATA,
            f"The database {name} on {server.host}, port {server.port},"
            f" {(*reasons, 'cannot be opened')[0]}.",
            remedy=f"Check databases.{name} in site.yaml with psql from this machine.",
        ) from None
    session.databases[name] = server.table_schema


def _password(path: Path) -> str:
    """The file's one line. Raises WardroundError(CREDENTIALS)."""
    remedy = "Write the password alone into it."
    content = read_secret(path, "password file", Code.CREDENTIALS, remedy=remedy)
    try:
        password = content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        password = ""
    if not password or "\n" in password:
        raise WardroundError(
            Code.CREDENTIALS,
            f"The password file {path} does not hold one line of text.",
            remedy=remedy,
        )
    return password


def _parameter(value: object) -> str:
    """A value in libpq's notation (PostgreSQL documentation, section 34.1.1.1)."""
    return "'" + str(value).replace("\\", "\\\\").replace("'", "\\'") + "'"


def blamed(error: duckdb.Error, session: Session) -> WardroundError | None:
    """The error of a database that went away while the view ran, or that holds in a column what
    its own type does not allow (SQLite does not mind); None where it is another's."""
    servers = sorted(session.databases)
    column = re.search(r'Invalid type in column "(\w+)"', str(error))
    if servers and column and isinstance(error, duckdb.TypeMismatchException):
        return WardroundError(
            Code.MALFORMED_DATA,
            f"The column {column[1]} of a database ({', '.join(servers)}) holds a value of another "
            "type than it declares.",
            remedy="Correct it, or declare the column TEXT and cast it in the view.",
        )
    if not servers or not any(sign in str(error) for sign in _LOST_CONNECTION):
        return None
    return WardroundError(
        Code.NO_DATA,
        f"A database went away while the view ran ({', '.join(servers)}).",
        remedy="Start it again; nothing was debited, and the coordinator asks again.",
    )
