"""A database of SQLite that fails as real ones do: by SQLite itself, with its own errors."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal

from tests.full_disk import disk_of

WriteFault = Literal["SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_BUSY", "SQLITE_READONLY"]
WRITE_FAULTS: tuple[WriteFault, ...] = (
    "SQLITE_FULL",
    "SQLITE_IOERR_WRITE",
    "SQLITE_BUSY",
    "SQLITE_READONLY",
)


@contextmanager
def failing_writes(
    db: sqlite3.Connection, path: Path, fault: WriteFault, schema: str = "main"
) -> Iterator[None]:
    """Every write through `db` to the database at `path`, attached as `schema`, fails."""
    match fault:
        case "SQLITE_FULL":  # not one page more, as when the disk has no room for it
            before = db.execute(f"PRAGMA {schema}.max_page_count").fetchone()[0]
            db.execute(f"PRAGMA {schema}.max_page_count = 1")
            yield
            db.execute(f"PRAGMA {schema}.max_page_count = {before}")
        case "SQLITE_IOERR_WRITE":
            with disk_of(1):
                yield
        case "SQLITE_BUSY":
            db.execute("PRAGMA busy_timeout = 0")
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                yield
        case "SQLITE_READONLY":
            db.execute("PRAGMA query_only = on")
            yield
            db.execute("PRAGMA query_only = off")


def damage(db: sqlite3.Connection, path: Path) -> None:
    """Overwrites every page but the first of an open database, as a failing disk does it."""
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # all of it is in the file then
    (size,) = db.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek(size)
        file.write(b"\xaa" * (path.stat().st_size - size))
    db.execute("PRAGMA shrink_memory")  # and nothing of it in memory
