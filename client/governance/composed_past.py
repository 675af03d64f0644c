"""What was composed of the ledger's past, kept beside it in `composed.sqlite`: a cache, no record.

Composing the past of a thousand studies takes a minute; with what is kept, one more study takes
about a second, after a restart too. An entry stands under the digest of the events that it was
composed of, so that another copy of the ledger, an older one say, finds its own entries or none.
Each is sealed with the site's split secret over its key, its value and the code that computed it.
What is missing, damaged, sealed by another site or computed by other code is composed again; the
file may be deleted at any time. Nothing here raises: a ledger works without the cache, slower.
"""

from __future__ import annotations

import hmac
import logging
import sqlite3
import threading
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from client.governance.patient_split import PatientSplit
from protocol.privacy.composition_cache import code_digest
from protocol.secret_files import make_database

FILE = "composed.sqlite"
_NUMBER_BYTES, _NUMBERS = 8, 50_000
"""An epsilon by itself is small: the newest are kept. Compositions take some 50 KB."""
_SWEPT_EVERY = 1_000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS kept (
  id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, value BLOB NOT NULL, seal BLOB NOT NULL) STRICT
"""
_log = logging.getLogger("wardround.site")


class ComposedPast:
    """A cache of compositions (`protocol.privacy.composition_cache.Kept`). Safe to share between
    threads and processes."""

    def __init__(self, folder: Path, split: PatientSplit) -> None:
        self._path, self._split = folder / FILE, split
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._unswept, self._given_up = _SWEPT_EVERY - 1, False

    def get(self, key: bytes) -> bytes | None:
        """Returns None for what is not there, or is not this site's and this code's."""
        rows = self._run("SELECT value, seal FROM kept WHERE key = ?", key)
        if not rows or not hmac.compare_digest(rows[0][1], self._seal(key, rows[0][0])):
            return None
        return bytes(rows[0][0])

    def put(self, key: bytes, value: bytes) -> None:
        """Keeps a value; of two under one key, the newer."""
        self._unswept += 1
        sealed = self._seal(key, value)
        self._run(
            "INSERT OR REPLACE INTO kept (key, value, seal) VALUES (?, ?, ?)", key, value, sealed
        )

    def sweep(self, in_use: Callable[[], Collection[bytes]]) -> None:
        """Deletes the compositions that are not in use, and the oldest numbers; at the first call
        after this process put something, and then after every thousand entries put."""
        if self._unswept < _SWEPT_EVERY:
            return
        self._unswept, needed = 0, in_use()
        rows = self._run(
            "SELECT key FROM kept WHERE length(value) > ? OR id <= (SELECT max(id) FROM kept) - ?",
            _NUMBER_BYTES,
            _NUMBERS,
        )
        for (key,) in rows:
            if key not in needed:
                self._run("DELETE FROM kept WHERE key = ?", key)

    def close(self) -> None:
        with self._lock:
            self._given_up = True
            if self._db is not None:
                self._db.close()

    def _seal(self, key: bytes, value: bytes) -> bytes:
        return self._split.seal(code_digest() + key + value)

    def _run(self, statement: str, *values: bytes | int) -> list[Any]:
        """Returns the rows; none where the file cannot be used. A damaged file is made anew."""
        with self._lock:
            try:
                try:
                    return self._rows(statement, values)
                except sqlite3.DatabaseError as error:
                    kind = error.sqlite_errorcode & 0xFF  # without SQLite's details
                    if kind in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                        self._remove()
                    elif kind != sqlite3.SQLITE_BUSY:
                        self._give_up(error.sqlite_errorname)
            except OSError as error:
                self._give_up(error.strerror)
            return []

    def _rows(self, statement: str, values: tuple[bytes | int, ...]) -> list[Any]:
        if self._given_up:
            return []
        if self._db is None:
            make_database(self._path)
            self._db = sqlite3.connect(
                self._path, isolation_level=None, check_same_thread=False, timeout=1
            )
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = OFF")  # whatever a power cut damages is noticed
            self._db.execute(_SCHEMA)
        return self._db.execute(statement, values).fetchall()

    def _remove(self) -> None:
        _log.warning("%s was damaged and is made anew", self._path)
        if self._db is not None:
            self._db.close()
        self._db = None
        for ending in ("", "-wal", "-shm"):
            self._path.with_name(FILE + ending).unlink(missing_ok=True)

    def _give_up(self, reason: str | None) -> None:
        _log.warning("%s cannot be used (%s): composing takes longer", self._path, reason)
        self._given_up = True
