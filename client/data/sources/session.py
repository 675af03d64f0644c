"""A DuckDB connection while a site's tables are made in it, and then locked.

Two walls stand around a view. DuckDB's own settings, frozen by `lock`: no file but those named, no
extension, no network, no Python variable, no spill to disk. And view_sandbox.py, which reads
the view's syntax tree, because extensions reach around the first (sqlite_scan opens any path).
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import duckdb

from protocol.errors import Code, WardroundError
from protocol.extras import Extra as Part

Extension = Literal["postgres_scanner", "sqlite_scanner", "mysql_scanner"]
INSTANT = "TIMESTAMP WITH TIME ZONE"
"""DuckDB's name, in its catalogue, of the type of times with an offset from UTC."""
Extra = Callable[[duckdb.DuckDBPyConnection], None]
"""Adds tables and functions to a connection that is not locked yet."""


def literal(value: str | int | bool) -> str:
    """A value as an SQL literal."""
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return str(value).lower()


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def unreadable(path: Path, error: OSError, remedy: str) -> WardroundError:
    """The error for a source's file that cannot be read."""
    reason = error.strerror or "not gzip"
    return WardroundError(Code.NO_DATA, f"{path} cannot be read: {reason}.", remedy=remedy)


def _version(path: Path) -> tuple[int, int]:
    """The size of a file and when it was written last, in ns; zeros where it is gone."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


class Session:
    """One connection, in memory. Use as a context manager.

    memory: bytes that the engine may hold. time_zone: the site's, an IANA name; `zoned` says
    whether there is one. `connection` is open for making tables until `lock`. `paths`: files that
    stay readable; `databases`: attached names, each with the one schema that may be read;
    `foreign_views`: (database, view) that DuckDB would compute by its own rules, in lower case;
    `notes`: remarks on the data for the site alone.
    """

    def __init__(self, memory: int, threads: int, time_zone: str | None = None) -> None:
        self.connection = duckdb.connect(":memory:")
        self.zoned = time_zone is not None
        self._scratch: list[int] = []
        self.paths: list[Path] = []
        self._versions: dict[Path, tuple[int, int]] = {}
        self.databases: dict[str, str] = {}
        self.foreign_views: set[tuple[str, str]] = set()
        self._views: set[str] = set()
        self.notes: list[str] = []
        settings: dict[str, str | int | bool] = {
            "memory_limit": f"{memory}B",
            "threads": threads,
            "temp_directory": "",  # a copy of patients' rows must not outlive the process
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "allow_community_extensions": False,
            "allow_persistent_secrets": False,
            "python_enable_replacements": False,
            "preserve_insertion_order": True,
            "TimeZone": time_zone or "UTC",
        }
        for setting, value in settings.items():
            self._set(setting, value)
        self.core_functions = self._functions()
        self._forbidden: frozenset[str] = frozenset()

    def _set(self, setting: str, value: str | int | bool) -> None:
        try:
            self.connection.execute(f"SET {setting} = {literal(value)}")
        except duckdb.Error:
            if setting != "TimeZone":
                raise
            raise WardroundError(
                Code.CONFIGURATION,
                f"{value} is no time zone.",
                remedy="State time_zone in site.yaml by its IANA name, such as Europe/Paris.",
            ) from None

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        """Ends an open transaction first: closing one whose server is gone would abort us all."""
        with contextlib.suppress(duckdb.Error):
            self.connection.rollback()
        self.connection.close()
        for descriptor in self._scratch:
            os.close(descriptor)

    def _functions(self) -> frozenset[str]:
        rows = self.connection.execute("SELECT DISTINCT function_name FROM duckdb_functions()")
        return frozenset(str(name).lower() for (name,) in rows.fetchall())

    @property
    def own_functions(self) -> frozenset[str]:
        """Functions that were added here, those of extensions aside."""
        return self._functions() - self.core_functions - self._forbidden

    @property
    def tables(self) -> frozenset[str]:
        """Tables and views of this session's own, in lower case."""
        if not self.databases:  # to look for views in those would run what they say
            self._views |= self._names_in("duckdb_views()", "view_name")
        return frozenset(self._views | self._names_in("duckdb_tables()", "table_name"))

    def _names_in(self, catalogue: str, column: str) -> set[str]:
        rows = self.connection.execute(
            f"SELECT {column} FROM {catalogue} WHERE NOT internal"
            " AND database_name = 'memory' AND schema_name = 'main'"
        ).fetchall()
        return {str(name).lower() for (name,) in rows}

    @property
    def instants(self) -> frozenset[tuple[str, str]]:
        """(table, column) of whatever holds instants: times with an offset from UTC."""
        rows = self.connection.execute(
            "SELECT table_name, column_name FROM duckdb_columns()"
            f" WHERE data_type = {literal(INSTANT)} AND NOT internal"
        ).fetchall()
        return frozenset((str(table).lower(), str(column)) for table, column in rows)

    def load(self, extension: Extension) -> None:
        """Loads an extension from the file in its installed Python package; nothing is fetched.

        Raises WardroundError(CONFIGURATION) where the package is missing or of another version.
        """
        package = f"duckdb_extension_{extension}"
        spec = importlib.util.find_spec(package)
        folders = (spec.submodule_search_locations if spec else None) or ()
        file = f"extensions/v{duckdb.__version__}/{extension}.duckdb_extension"
        paths = [path for folder in folders if (path := Path(folder) / file).is_file()]
        before = self._functions()
        try:
            self.connection.execute(f"LOAD {literal(str(paths[0]))}")
        except (duckdb.Error, IndexError):
            raise WardroundError(
                Code.CONFIGURATION,
                f"DuckDB {duckdb.__version__} finds no {extension} of its own version.",
                remedy=f"pip install {package.replace('_', '-')}=={duckdb.__version__}, "
                f'or "wardround[{Part.DATABASES}]".',
            ) from None
        self._forbidden |= self._functions() - before

    def allow(self, path: Path) -> None:
        """The file stays readable behind `lock`, for tables made of it."""
        self.paths.append(path)
        self._versions[path] = _version(path)

    def check_unchanged(self) -> None:
        """Raises WardroundError(MALFORMED_DATA) for a file that has changed since `allow`: what was
        settled about it may not hold for what was read."""
        for path, version in self._versions.items():
            if _version(path) != version:
                raise WardroundError(
                    Code.MALFORMED_DATA,
                    f"{path} changed while it was read.",
                    remedy="Export to another name and rename the file when it is complete.",
                )

    def scratch(self) -> Path:
        """An empty file in memory, never on a disk (memfd_create(2)); it ends with the session.

        Raises WardroundError(CONFIGURATION) where the system has none.
        """
        if not hasattr(os, "memfd_create"):
            raise WardroundError(
                Code.CONFIGURATION,
                "This system keeps no file in memory, which another encoding needs.",
                remedy="Export the file as UTF-8.",
            )
        self._scratch.append(os.memfd_create("wardround"))
        path = Path(f"/proc/self/fd/{self._scratch[-1]}")
        self.paths.append(path)
        return path

    def check_name(self, name: str) -> None:
        """Raises WardroundError(CONFIGURATION) for a name that is no plain word or is taken."""
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            wrong, remedy = f"{name!r} cannot name a table.", "Use letters, digits and _."
        elif name.lower() in self.tables:
            wrong, remedy = f"Two tables are named {name}.", "Rename one of them in site.yaml."
        else:
            return
        raise WardroundError(Code.CONFIGURATION, wrong, remedy=remedy)

    def view(
        self,
        name: str,
        select: str,
        optional: Mapping[str, str] = {},
        renamed: Mapping[str, str] = {},
    ) -> None:
        """The SELECT as a table of the given name. optional: columns that it may lack, by SQL type:
        NULL then. renamed: other names of columns, where it has them. Raises duckdb.Error, and as
        `check_name`."""
        self.check_name(name)
        if optional or renamed:
            described = self.connection.execute(f"DESCRIBE {select}").fetchall()
            found = {str(column).lower() for column, *_ in described}
            pairs = [f"{quoted(old)} AS {quoted(renamed[old])}" for old in renamed.keys() & found]
            if pairs:
                select = f"SELECT * RENAME ({', '.join(pairs)}) FROM ({select})"
            absent = optional.keys() - found
            nulls = [f", CAST(NULL AS {optional[c]}) AS {quoted(c)}" for c in sorted(absent)]
            select = f"SELECT *{''.join(nulls)} FROM ({select})"
        self.connection.execute(f"CREATE VIEW {quoted(name)} AS {select}")
        self._views.add(name.lower())

    def check_faithful(self, database: str, table: str) -> None:
        """Raises WardroundError(CONFIGURATION) for one of `foreign_views`."""
        if (database.lower(), table.lower()) in self.foreign_views:
            raise WardroundError(
                Code.CONFIGURATION,
                f"{database}.{table} is a view of SQLite, whose rules for types and for division"
                " would not hold here.",
                remedy="Make a table of it, with declared types: CREATE TABLE ... (...); INSERT"
                f" INTO ... SELECT * FROM {table}.",
            )

    def note(self, text: str) -> None:
        """Adds a remark for the site alone; it holds no value of a patient."""
        self.notes.append(text)

    def lock(self) -> None:
        """Freezes the settings: nothing can be added, and only the allowed files be opened."""
        paths = ", ".join(literal(str(path)) for path in self.paths)
        self.connection.execute(f"SET allowed_paths = [{paths}]")
        self.connection.execute("SET enable_external_access = false")
        self.connection.execute("SET lock_configuration = true")
