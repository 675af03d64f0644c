"""Servers of databases: PostgreSQL, and MariaDB (MySQL by the same protocol, untested).

Their drivers' messages are never passed on, for they repeat the connection's parameters.
"""

from __future__ import annotations

from pathlib import Path

import duckdb

from client.data.sources.session import Session, literal, quoted
from client.data.sources.settings import Mariadb, Postgres, Tls
from protocol.errors import Code, WardroundError
from protocol.secret_files import read_secret

_CONNECT_SECONDS = 10
_REASONS = {
    "to database": "does not let this user read this database",
    "using password": "refuses this user's password",
    "password": "refuses this user's password",
    "no pg_hba.conf entry": "does not let this user in from this machine",
    'role "': "does not know this user",
    'database "': "does not have this database",
    "SSL": "does not agree on TLS",
    "certificate": "does not agree on TLS",
    "refused": "does not answer",
    "timeout": "does not answer in time",
    "No such file": "does not answer",
    "Can't connect": "does not answer, or does not let this user in by its socket",
    "Unknown server host": "has a host name that nobody knows",
    "translate host name": "has a host name that nobody knows",
}
"""What a driver says -> the reason, in words that repeat nothing; the first counts."""
_SSL_MODES: dict[Tls, str] = {
    "disable": "disabled",
    "prefer": "preferred",
    "require": "required",
    "verify-ca": "verify_ca",
    "verify-full": "verify_identity",
}
"""libpq's words -> those of MariaDB's driver."""


def attach_postgres(session: Session, name: str, server: Postgres, seconds: float) -> None:
    """Raises as `attaching.attach`."""
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
        raise _closed(name, server, error, "psql") from None
    session.databases[name] = server.table_schema


def attach_mariadb(session: Session, name: str, server: Mariadb, seconds: float) -> None:
    """Raises as `attaching.attach`.

    The server is asked for columns alone, never to filter, group or sort: by its usual collations
    the identifiers p1 and P1 are one.
    """
    session.load("mysql_scanner")
    for setting in ("experimental_filter_pushdown", "aggregate_pushdown_enabled",
                    "order_pushdown_enabled"):  # fmt: skip
        session.connection.execute(f"SET mysql_{setting} = false")
    for bound in ("min", "max"):
        limit = max(1, int(1000 * seconds))
        session.connection.execute(f"SET mysql_query_timeout_{bound}_ms = {limit}")
    parameters: dict[str, str | int] = {
        "database": server.database,
        "user": server.user,
        "ssl_mode": _SSL_MODES[server.tls],
    }
    if "/" in server.host:
        parameters |= {"host": "localhost", "port": 0, "socket": server.host}
    else:
        parameters |= {"host": server.host, "port": server.port}
    if server.root_certificate:
        parameters["ssl_ca"] = str(server.root_certificate)
    if server.password_file:
        parameters["password"] = _password(server.password_file)
    login = ", ".join(f"{key} {literal(value)}" for key, value in parameters.items())
    session.connection.execute(f"CREATE TEMPORARY SECRET {quoted(name)} (TYPE mysql, {login})")
    try:
        session.connection.execute(
            f"ATTACH '' AS {quoted(name)} (TYPE mysql, READ_ONLY, SECRET {quoted(name)})"
        )
    except duckdb.Error as error:
        raise _closed(name, server, error, "the mariadb client") from None
    session.databases[name] = server.database


def _closed(
    name: str, server: Postgres | Mariadb, error: duckdb.Error, client: str
) -> WardroundError:
    """The error of a server that does not let us in."""
    message = str(error).partition('": ')[2] or str(error)  # what follows the parameters
    reasons = [reason for sign, reason in _REASONS.items() if sign in message]
    return WardroundError(
        Code.NO_DATA,
        f"The database {name} on {server.host}, port {server.port},"
        f" {(*reasons, 'cannot be opened')[0]}.",
        remedy=f"Check databases.{name} in site.yaml with {client} from this machine.",
    )


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
