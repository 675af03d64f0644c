"""What a site has scored already: state/predictions.db, 0600.

    scored    model (the bundle's digest), record (`selection.RECORD`), time; durable on return

No score and no name is in it. A record whose values have changed is another record.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from protocol.errors import Code, WardroundError
from protocol.secret_files import refuse_shared

FILE = "predictions.db"
_SCHEMA = """CREATE TABLE IF NOT EXISTS scored (
  model TEXT NOT NULL, record TEXT NOT NULL, time TEXT NOT NULL,
  PRIMARY KEY (model, record)) STRICT, WITHOUT ROWID"""


class ScoredRecords:
    """An open file. Its methods raise WardroundError(STATE) where it cannot be read or written."""

    def __init__(self, db: sqlite3.Connection, path: Path) -> None:
        self._db, self._path = db, path

    @staticmethod
    @contextmanager
    def open(state: Path) -> Iterator[ScoredRecords]:
        """The file in a state folder, made where there is none."""
        path = state / FILE
        refuse_shared(state, "state folder")
        with _errors(path):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            refuse_shared(path, "file of predictions")
            db = sqlite3.connect(path, isolation_level=None, timeout=30)
        try:
            with _errors(path):
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("PRAGMA synchronous = FULL")
                db.execute(_SCHEMA)
            yield ScoredRecords(db, path)
        finally:
            db.close()

    def of(self, model: str) -> frozenset[str]:
        """The records that a model has scored."""
        with _errors(self._path):
            rows = self._db.execute("SELECT record FROM scored WHERE model = ?", (model,))
            return frozenset(record for (record,) in rows)

    def add(self, model: str, records: Iterable[str]) -> None:
        """All of them, or none."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with _errors(self._path), self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(
                "INSERT OR IGNORE INTO scored VALUES (?, ?, ?)",
                ((model, record, now) for record in records),
            )


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise WardroundError(
            Code.STATE,
            f"{path} cannot be read or written ({type(error).__name__}).",
            remedy="Is the disk full? A damaged file may be moved away: what it names is then "
            "scored again.",
        ) from None
