"""Where one task's rows come from: files, databases, an OMOP CDM, a FHIR export; all in place."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field
from pydantic import model_validator as validator

from client.data.sources.file_format import FileFormat
from protocol.document import Document
from protocol.yaml.documents import contradiction
from protocol.yaml.values import LocalPath, Number

TableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=64)]


Tls = Literal["disable", "prefer", "require", "verify-ca", "verify-full"]


class Postgres(Document):
    """How to reach a PostgreSQL server. The password never stands in site.yaml: it is in a file
    that only this user reads, or where libpq itself looks (~/.pgpass, PGPASSWORD, peer)."""

    host: str = Field(min_length=1, description="a host name, or the folder of a Unix socket")
    port: int = Field(default=5432, ge=1, le=65535, description="a port, usually 5432")
    database: str = Field(min_length=1, description="the name of the database")
    user: str = Field(min_length=1, description="a role that may only read")
    password_file: LocalPath | None = Field(
        default=None, description="the path of a file (mode 600) that holds the password alone"
    )
    table_schema: str = Field(
        default="public", alias="schema", min_length=1, description="the schema of the tables"
    )
    tls: Tls = Field(
        default="prefer", description="libpq's sslmode, verify-full beyond this machine"
    )
    root_certificate: LocalPath | None = Field(
        default=None, description="the path of a PEM file, for tls verify-ca and verify-full"
    )


class Mariadb(Document):
    """How to reach a MariaDB server, or one of MySQL (untested). Times are read as they stand on
    the server's own clock."""

    host: str = Field(min_length=1, description="a host name, or the path of a Unix socket")
    port: int = Field(default=3306, ge=1, le=65535, description="a port, usually 3306")
    database: str = Field(min_length=1, description="the name of the database")
    user: str = Field(min_length=1, description="a user that may only SELECT")
    password_file: LocalPath | None = Field(
        default=None, description="the path of a file (mode 600) that holds the password alone"
    )
    tls: Tls = Field(default="prefer", description="as for postgres")
    root_certificate: LocalPath | None = Field(
        default=None, description="the path of a PEM file, for tls verify-ca and verify-full"
    )


class _OneOf(Document):
    """A mapping of which exactly one key is given."""

    @validator(mode="after")
    def _one(self) -> Self:
        if len([name for name, value in self if value is not None]) != 1:
            names = " nor ".join(name for name, _ in self)
            raise contradiction(f"neither {names}, or several", "Give one of them")
        return self


class Database(_OneOf):
    """A database attached read-only: one of three kinds."""

    sqlite: LocalPath | None = Field(default=None, description="the path of a SQLite file")
    postgres: Postgres | None = Field(
        default=None, description="a mapping with host, database, user and password_file"
    )
    mariadb: Mariadb | None = Field(default=None, description="the same for MariaDB or MySQL")


class Omop(_OneOf):
    """An OMOP CDM 5.3 or 5.4: a folder with one file a table, or one of `databases`."""

    folder: LocalPath | None = Field(
        default=None, description="the path of a folder with person.csv (or .parquet) and so on"
    )
    database: TableName | None = Field(default=None, description="a name under `databases`")


class Fhir(Document):
    """A FHIR R4 export, and the ViewDefinitions (SQL on FHIR v2) that make tables of it."""

    folder: LocalPath = Field(
        description="the path of a folder with bulk NDJSON or bundles, or of one such file"
    )
    views: tuple[LocalPath, ...] = Field(
        default=(),
        strict=False,
        description="a list of paths of ViewDefinitions, or of their folders",
    )


class Sources(Document):
    """What a view may read. Every kind may stand beside every other."""

    files: dict[TableName, LocalPath] = Field(
        default={}, description="a mapping from table names to paths"
    )
    headerless: dict[TableName, Annotated[tuple[str, ...], Field(strict=False, min_length=1)]] = (
        Field(
            default={},
            description="column names of a delimited file without a header line, by table",
        )
    )
    formats: dict[TableName, FileFormat] = Field(
        default={}, description="how a delimited file is written, by table"
    )
    databases: dict[TableName, Database] = Field(
        default={},
        description="a mapping from names to {sqlite: path}, {postgres: {...}} or {mariadb: {...}}",
    )
    omop: Omop | None = Field(default=None, description="{folder: path} or {database: name}")
    fhir: Fhir | None = Field(default=None, description="{folder: path, views: [paths]}")
    value_sets: tuple[LocalPath, ...] = Field(
        default=(),
        strict=False,
        description="a list of files of your own value sets: CSV, or expanded ValueSets (.json)",
    )
    ancestors: tuple[LocalPath, ...] = Field(
        default=(),
        strict=False,
        description="a list of files that say which code lies below which: CSV with the columns "
        "system, ancestor, descendant, or CodeSystems (.json)",
    )
    minutes: Number = Field(
        default=30.0, gt=0, le=24 * 60, description="the most minutes that reading may take"
    )

    @validator(mode="after")
    def _known(self) -> Self:
        for kind, tables in (("headerless", self.headerless), ("formats", self.formats)):
            if unknown := sorted(set(tables) - set(self.files)):
                raise contradiction(
                    f"{kind} names {unknown[0]}, which files lacks", "Add it under files"
                )
        for name in self.databases:
            if name.lower() in ("main", "memory", "system", "temp"):
                raise contradiction(f"databases names one {name}, which is DuckDB's", "Rename it")
        if self.omop and self.omop.database and self.omop.database not in self.databases:
            raise contradiction(
                f"omop.database names {self.omop.database}, which databases lacks",
                "Add it under databases",
            )
        return self

    @property
    def reads(self) -> frozenset[str]:
        """Where the records are: the same words for the same files and databases."""
        databases = (str(database) for database in self.databases.values())
        folders = [kind.folder for kind in (self.omop, self.fhir) if kind and kind.folder]
        return frozenset({*map(str, (*self.files.values(), *folders)), *databases})

    def below(self, base: Path) -> dict[str, Any]:
        """Every field, with its paths made absolute below `base`."""
        return {name: _below(value, base) for name, value in self}


def _below(value: Any, base: Path) -> Any:
    """A path, or whatever holds paths; the folder of a server's socket counts as one."""
    match value:
        case Path():
            return base / value
        case Document():
            update = {name: _below(v, base) for name, v in value}
            if isinstance(value, Postgres | Mariadb) and "/" in value.host:
                update["host"] = str(base / value.host)
            return value.model_copy(update=update)
        case dict():
            return {name: _below(v, base) for name, v in value.items()}
        case tuple():
            return tuple(_below(v, base) for v in value)
    return value


def expand(path: Path) -> list[Path]:
    """The files that a path with * or ? stands for, sorted; any other path is itself."""
    if not any(sign in str(path) for sign in "*?[") or path.exists():
        return [path]
    return [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]
