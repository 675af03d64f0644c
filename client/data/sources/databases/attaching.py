"""Databases attached read-only: SQLite files, PostgreSQL and MariaDB, by DuckDB's extensions.

Nothing of DuckDB's or the drivers' messages is passed on: they repeat the connection's parameters.
"""

from __future__ import annotations

import re
from pathlib import Path

import duckdb

from client.data.sources.databases import servers
from client.data.sources.session import Session, literal, quoted, unreadable
from client.data.sources.settings import Database
from protocol.errors import Code, WardroundError

_LOST_CONNECTION = (
    "terminating connection", "server closed the connection", "connection to server",
    "no connection to the server", "could not receive data", "could not send data",
    "Connection refused", "Unable to connect", "database disk image is malformed",
    "disk I/O error", "the database system is", "Failed to fetch result row for MySQL query",
    "Failed to connect to MySQL database",
)  # fmt: skip


_GRANTS = {"schema": "USAGE ON SCHEMA", "table": "SELECT ON", "view": "SELECT ON"}
"""What PostgreSQL may deny -> what GRANT gives."""


def attach(session: Session, name: str, database: Database, seconds: float) -> None:
    """The database under its name: its tables are `name.table`.

    seconds: the limit for one query, which the server is told too.
    Raises WardroundError: NO_DATA where the file or server is not there or does not let us in,
    MALFORMED_DATA for a file that is no database, CREDENTIALS for a password file that others
    may read, CONFIGURATION where the extension is missing.
    """
    if database.sqlite is not None:
        _attach_sqlite(session, name, database.sqlite)
    elif database.postgres is not None:
        servers.attach_postgres(session, name, database.postgres, seconds)
    elif database.mariadb is not None:
        servers.attach_mariadb(session, name, database.mariadb, seconds)


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
        views = session.connection.execute(
            "SELECT name FROM sqlite_scan(?, 'sqlite_master') WHERE type = 'view'", [str(path)]
        ).fetchall()
    except duckdb.Error:
        raise broken from None
    session.foreign_views |= {(name.lower(), str(view).lower()) for (view,) in views}
    session.databases[name] = "main"


def blamed(error: duckdb.Error, session: Session) -> WardroundError | None:
    """The error of a database that went away while the view ran, that does not let its user read a
    table, or that holds in a column what its own type does not allow (SQLite does not mind); None
    where it is another's."""
    servers = sorted(session.databases)
    denied = re.search(rf"permission denied for ({'|'.join(_GRANTS)}) (\w+)", str(error))
    if servers and denied:
        return WardroundError(
            Code.NO_DATA,
            f"The user of a database ({', '.join(servers)}) may not read {denied[2]}.",
            remedy=f"Let the user read it: GRANT {_GRANTS[denied[1]]} {denied[2]}.",
        )
    column = re.search(r'Invalid type in column "(\w+)"', str(error))
    if servers and column and isinstance(error, duckdb.TypeMismatchException):
        return WardroundError(
            Code.MALFORMED_DATA,
            f"The column {column[1]} of a database ({', '.join(servers)}) holds a value of another "
            "type than it declares.",
            remedy="Correct it, or declare the column TEXT and cast it in the view.",
        )
    if servers and isinstance(error, duckdb.ConversionException):
        if "Date out of" in str(error):
            return _no_day(servers, "a date without a month or day")
        if re.search(r"(date|timestamp) field", str(error)):
            return _no_day(servers, "a date or time that is none")
    if not servers or not any(sign in str(error) for sign in _LOST_CONNECTION):
        return None
    return WardroundError(
        Code.NO_DATA,
        f"A database went away while the view ran ({', '.join(servers)}).",
        remedy="Start it again; nothing was debited, and the coordinator asks again.",
    )


def _no_day(servers: list[str], what: str) -> WardroundError:
    return WardroundError(
        Code.MALFORMED_DATA,
        f"A database ({', '.join(servers)}) holds {what}.",
        remedy="Correct it, or leave its column out of the view.",
    )
