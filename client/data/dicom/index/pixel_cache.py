"""The cache of decoded pictures: a file of bytes to map into memory, and a catalogue of it.

    pictures/catalogue.db      SQLite: file -> content, (preprocessing, content) -> slot or fault
    pictures/v2-KEY-28x28.u8   slot after slot, a byte a value

In the state folder, 0600. The key is the content (SHA-256) and how it was prepared, so that a file
that moves, or is copied, is not decoded again, and another size or version never mixes with this
entry. A slot is written and synced before the catalogue names it: a crash leaves bytes that the
next picture overwrites. What failed for a reason that passes waits, and is not kept.
"""

from __future__ import annotations

import math
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from client.data.dicom.index.index import Stamp
from client.data.dicom.pixels.faults import TRANSIENT, PixelFault
from client.data.dicom.pixels.mask import MaskPreparation
from client.data.dicom.pixels.preprocessing import PreparedPicture, Preprocessing
from protocol.errors import Code, WardroundError
from protocol.secret_files import refuse_shared

FOLDER = "pictures"
_CATALOGUE = "catalogue.db"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS file (
  path BLOB PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
  content TEXT, fault TEXT) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS picture (
  made TEXT NOT NULL, content TEXT NOT NULL, slot INTEGER, fault TEXT,
  PRIMARY KEY (made, content)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS waiting (
  path BLOB PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
  fault TEXT NOT NULL, tries INTEGER NOT NULL, again REAL NOT NULL) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS one_each ON picture (made, slot) WHERE slot IS NOT NULL;
"""
_KEPT = [fault for fault in PixelFault if fault not in TRANSIENT]
_FORGET = f"WHERE fault NOT IN ({', '.join('?' * len(_KEPT))})"
"""Faults that 0.1.0 kept for ever or told in other words: they are found out again."""


@dataclass(frozen=True)
class CacheEntry:
    """What became of one file, to be written to the cache."""

    path: Path
    stamp: Stamp
    prepared: PreparedPicture


class PictureCache:
    """The pictures of one preprocessing. Several processes may have it open. clock: seconds since
    1970."""

    def __init__(
        self,
        db: sqlite3.Connection,
        made: Preprocessing | MaskPreparation,
        store: int,
        path: Path,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.clock = clock
        self.made = made
        self._db, self._store, self._path = db, store, path
        self._size = math.prod(made.shape)

    @staticmethod
    def open(state: Path, made: Preprocessing | MaskPreparation) -> PictureCache:
        """Made where there is none. Raises WardroundError(STATE), as every method does where the
        cache cannot be read or written."""
        refuse_shared(state, "state folder")
        folder = state / FOLDER
        with _errors(folder):
            folder.mkdir(mode=0o700, exist_ok=True)
            refuse_shared(folder, "cache of pictures")
            catalogue, path = folder / _CATALOGUE, folder / f"{made.name}.u8"
            os.close(_private(catalogue))
            store = _private(path)
            try:
                refuse_shared(path, "cache of pictures")
                refuse_shared(catalogue, "cache of pictures")
                db = sqlite3.connect(catalogue, isolation_level=None, timeout=60)
            except BaseException:
                os.close(store)
                raise
            cache = PictureCache(db, made, store, path)
            try:
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("PRAGMA synchronous = FULL")
                db.executescript(_SCHEMA)
                for table in ("file", "picture"):
                    db.execute(f"DELETE FROM {table} {_FORGET}", _KEPT)
                cache._forget_lost()
            except BaseException:
                cache.close()
                raise
        return cache

    def close(self) -> None:
        self._db.close()
        os.close(self._store)

    def __enter__(self) -> PictureCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def find(self, files: Mapping[Path, Stamp]) -> dict[Path, int | PixelFault]:
        """What is known of these files as they are now: a slot, or why there is no picture."""
        rows = self._read(
            "SELECT path, size, mtime_ns, slot, coalesce(file.fault, picture.fault) FROM file"
            " LEFT JOIN picture ON picture.content = file.content AND made = ?"
            " WHERE slot IS NOT NULL OR file.fault IS NOT NULL OR picture.fault IS NOT NULL"
            " UNION ALL SELECT path, size, mtime_ns, NULL, fault FROM waiting WHERE again > ?",
            (self.made.name, self.clock()),
        )
        known: dict[Path, int | PixelFault] = {}
        for raw, size, mtime_ns, slot, fault in rows:
            path = Path(os.fsdecode(raw))
            if files.get(path) == (size, mtime_ns):
                known[path] = slot if slot is not None else PixelFault(fault)
        return known

    def contents(self) -> frozenset[str]:
        """Digests of the contents that need no decoding."""
        rows = self._read("SELECT content FROM picture WHERE made = ?", (self.made.name,))
        return frozenset(row[0] for row in rows)

    def add(self, entries: Iterable[CacheEntry]) -> None:
        """Keeps what was made, all of it or nothing, durably when it returns."""
        with self._writing():
            slot = self._slots()
            for entry in entries:
                content, fault = entry.prepared.content, entry.prepared.fault
                if fault in TRANSIENT:
                    self._put_off(entry, fault)
                    continue
                self._db.execute("DELETE FROM waiting WHERE path = ?", (os.fsencode(entry.path),))
                self._db.execute(
                    "INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?)",
                    (os.fsencode(entry.path), *entry.stamp, content, None if content else fault),
                )
                if content is None or (entry.prepared.picture is None and fault is None):
                    continue
                fresh = self._db.execute(
                    "INSERT OR IGNORE INTO picture VALUES (?, ?, ?, ?)",
                    (self.made.name, content, None if fault else slot, fault),
                ).rowcount
                if fresh and entry.prepared.picture is not None:
                    self._write(entry.prepared.picture, slot * self._size)
                    slot += 1
            os.fsync(self._store)

    def pictures(self) -> npt.NDArray[np.uint8]:
        """(slots, *made.shape) uint8, mapped from the file and not to be written to."""
        shape = (self._slots(), *self.made.shape)
        if not shape[0]:
            return np.empty(shape, dtype=np.uint8)
        with _errors(self._path):
            return np.memmap(self._path, dtype=np.uint8, mode="r", shape=shape)

    def _put_off(self, entry: CacheEntry, fault: str) -> None:
        """A minute at first, then four times as long each time, a day at most."""
        name = os.fsencode(entry.path)
        row = self._db.execute("SELECT tries FROM waiting WHERE path = ?", (name,)).fetchone()
        tries = min(10, 1 + (row[0] if row else 0))
        again = self.clock() + min(86400.0, 60.0 * 4 ** (tries - 1))
        self._db.execute(
            "INSERT OR REPLACE INTO waiting VALUES (?, ?, ?, ?, ?, ?)",
            (name, *entry.stamp, fault, tries, again),
        )

    def _slots(self) -> int:
        select = "SELECT coalesce(max(slot) + 1, 0) FROM picture WHERE made = ?"
        return int(self._read(select, (self.made.name,))[0][0])

    def _read(self, select: str, values: Sequence[Any]) -> list[Any]:
        with _errors(self._path):
            return self._db.execute(select, values).fetchall()

    def _write(self, picture: bytes, offset: int) -> None:
        view = memoryview(picture)
        while view:
            written = os.pwrite(self._store, view, offset)
            view, offset = view[written:], offset + written

    def _forget_lost(self) -> None:
        """Slots beyond the end of the file: it was cut or replaced, and they are made again."""
        held = os.fstat(self._store).st_size // self._size
        with self._writing():
            self._db.execute(
                "DELETE FROM picture WHERE made = ? AND slot >= ?", (self.made.name, held)
            )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with _errors(self._path), self._db:  # commits, or rolls back
            self._db.execute("BEGIN IMMEDIATE")
            yield


def purge(state: Path) -> tuple[int, int]:
    """Removes every cached picture: (files, bytes). What is mapped by a daemon that runs stays
    with it until it lets go. Raises WardroundError(STATE)."""
    folder = state / FOLDER
    with _errors(folder):
        if not folder.is_dir():
            return 0, 0
        files = list(folder.iterdir())
        size = sum(path.stat().st_size for path in files)
        for path in files:
            path.unlink()
        folder.rmdir()
    return len(files), size


def _private(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "sqlite_errorname", "") or getattr(error, "strerror", "")
        raise WardroundError(
            Code.STATE,
            f"The cache of pictures {path} cannot be used: {reason or type(error).__name__}.",
            remedy="Make room on the disk, or make it again: `wardround-site cache purge`.",
        ) from None
