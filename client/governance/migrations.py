"""Migrates the ledger of an older release to this one's schema, and leaves a copy beside it.

The steps, one function each, run in one transaction: after a power cut the ledger has the older
schema or the newer one. The copy, state.sqlite.schema-1 for example, is marked as one: putting it
back is noticed, and charges every open study in full (`wardround-site ledger acknowledge`), since
nobody knows what was spent after it was made.
"""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from protocol import durable_files
from protocol.errors import Code, WardroundError
from protocol.release import RELEASE

_log = logging.getLogger("wardround.site")


def _release(db: sqlite3.Connection) -> None:
    """1 to 2: the ledger says which release wrote it last, by which names each study's patients
    went, among whom its sums were, how a closed study ended and until when a plan is reserved. Of
    what 0.1.0 charged nobody knows by which names, so that it is charged to every patient."""
    note_release(db)
    db.execute("ALTER TABLE studies ADD COLUMN names TEXT NOT NULL DEFAULT ''")
    db.execute("ALTER TABLE studies ADD COLUMN expires TEXT NOT NULL DEFAULT ''")
    db.execute("UPDATE studies SET state = reason WHERE state = 'closed'")
    db.execute(
        "CREATE TABLE patients (name BLOB PRIMARY KEY, place REAL NOT NULL) STRICT, WITHOUT ROWID"
    )
    db.execute(
        "CREATE TABLE participant_sets (study TEXT NOT NULL REFERENCES studies,"
        " round INTEGER NOT NULL, sites TEXT NOT NULL,"
        " PRIMARY KEY (study, round, sites)) STRICT, WITHOUT ROWID"
    )


STEPS: dict[int, Callable[[sqlite3.Connection], None]] = {1: _release}
"""Schema -> the step from it to the next one."""
SCHEMA_VERSION = max(STEPS) + 1


def schema_of(db: sqlite3.Connection) -> int:
    """Returns the version of the schema; 0 where a creation was cut short."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def set_schema(db: sqlite3.Connection, version: int) -> None:
    """Writes the version of the schema; to be called within a transaction."""
    db.execute(f"PRAGMA user_version = {int(version)}")


def note_release(db: sqlite3.Connection) -> None:
    """Writes this release into the ledger; to be called within a transaction."""
    db.execute("INSERT OR REPLACE INTO meta VALUES ('release', ?)", (RELEASE,))


def needs_migration(db: sqlite3.Connection, database: Path) -> bool:
    """Returns whether an older release wrote the ledger.

    Raises WardroundError(RELEASE) for a ledger of a newer release, (STATE) for an unknown schema.
    """
    schema = schema_of(db)
    if schema > SCHEMA_VERSION:
        raise _newer(db, database, schema)
    if schema != SCHEMA_VERSION and schema not in STEPS:
        raise WardroundError(
            Code.STATE,
            f"The ledger in {database.parent} has no schema: its creation was cut short.",
            remedy="Run `wardround-site init` again.",
        )
    return schema != SCHEMA_VERSION


def migrate(db: sqlite3.Connection, database: Path) -> None:
    """Brings the ledger to this release's schema. The caller holds the write lock.

    Raises sqlite3.Error or OSError, after which the ledger is unchanged.
    """
    schema = schema_of(db)
    if schema == SCHEMA_VERSION:
        return  # another process was quicker
    copy = database.with_name(f"{database.name}.schema-{schema}")
    if not copy.exists():
        copy_database(db, copy)
    db.execute("BEGIN IMMEDIATE")
    try:
        for step in range(schema, SCHEMA_VERSION):
            STEPS[step](db)
        set_schema(db, SCHEMA_VERSION)
        db.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        raise
    _log.warning("the ledger was migrated", extra={"schema": SCHEMA_VERSION, "copy": str(copy)})


def copy_database(db: sqlite3.Connection, target: Path) -> None:
    """Makes a consistent copy, 0600 and durable, whole or not at all, that is marked as a copy.

    Raises FileExistsError where `target` exists: a copy is never replaced.
    """
    if target.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    partial = target.with_name(f"{target.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with closing(sqlite3.connect(partial)) as copy:
            db.backup(copy)
            copy.execute("INSERT OR REPLACE INTO meta VALUES ('backup', 'yes')")
            copy.commit()
            copy.execute("PRAGMA journal_mode = DELETE")
        durable_files.move(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def _newer(db: sqlite3.Connection, database: Path, schema: int) -> WardroundError:
    row = db.execute("SELECT value FROM meta WHERE key = 'release'").fetchone()
    release = row[0] if row else "a newer release"
    copy = database.with_name(f"{database.name}.schema-{SCHEMA_VERSION}")
    back = f", or put {copy.name} back and acknowledge it" if copy.exists() else ""
    return WardroundError(
        Code.RELEASE,
        f"The ledger in {database.parent} has schema {schema}, of wardround {release}; this is "
        f"wardround {RELEASE}, which reads schema {SCHEMA_VERSION} and older.",
        remedy=f"Install wardround {release}{back}.",
    )
