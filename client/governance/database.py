"""The site's durable state: one SQLite file, in a folder that only the site's user can read.

    state.sqlite   studies, plans, debits, attempts, audit log (WAL, synchronous=FULL); a copy
                   from before a migration stays beside it (migrations.py)
    head.json      the head of the audit chain, outside the database (audit_head.py)
    split.key      the secret that splits patients (patient_split.py)
    composed.sqlite  a cache (composed_past.py)
    daemon.lock    held by the one daemon; write.lock held by whoever writes (a daemon, a command)

Every write is one `SiteState.transaction`:

    lock write.lock -> BEGIN IMMEDIATE -> refuse an older copy -> rows -> COMMIT -> head.json
                                          any error: ROLLBACK

With WAL and synchronous=FULL, COMMIT returns after the fsync of the log, so what has been
committed survives a power cut (sqlite.org/pragma.html#pragma_synchronous). WAL needs a local file
system.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from client.governance.audit_head import GENESIS, ChainHead
from client.governance.composed_past import ComposedPast
from client.governance.ledger_rows import is_reserved
from client.governance.migrations import (
    SCHEMA_VERSION,
    copy_database,
    migrate,
    needs_migration,
    note_release,
    schema_of,
    set_schema,
)
from client.governance.patient_split import FILE as SPLIT
from client.governance.patient_split import PatientSplit
from protocol import durable_files
from protocol.errors import Code, WardroundError
from protocol.secret_files import make_database, refuse_shared

_DATABASE, _HEAD, _DAEMON, _WRITE = "state.sqlite", "head.json", "daemon.lock", "write.lock"
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE audit (
  seq INTEGER PRIMARY KEY, time TEXT NOT NULL, event TEXT NOT NULL, fields TEXT NOT NULL,
  previous TEXT NOT NULL, hash TEXT NOT NULL, signature TEXT NOT NULL) STRICT;
CREATE TABLE studies (
  digest TEXT PRIMARY KEY, document BLOB NOT NULL, state TEXT NOT NULL, code TEXT,
  reason TEXT NOT NULL DEFAULT '', policy TEXT NOT NULL DEFAULT '', seen TEXT NOT NULL,
  changed TEXT NOT NULL, round INTEGER NOT NULL DEFAULT 0, attempt INTEGER NOT NULL DEFAULT 0,
  names TEXT NOT NULL DEFAULT '', expires TEXT NOT NULL DEFAULT '') STRICT;
CREATE TABLE patients (name BLOB PRIMARY KEY, place REAL NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE plans (
  study TEXT NOT NULL REFERENCES studies, part TEXT NOT NULL, event TEXT NOT NULL,
  planned INTEGER NOT NULL, debited INTEGER NOT NULL DEFAULT 0 CHECK (debited <= planned),
  PRIMARY KEY (study, part)) STRICT, WITHOUT ROWID;
CREATE TABLE debits (
  study TEXT NOT NULL REFERENCES studies, attempt INTEGER NOT NULL, part TEXT NOT NULL,
  round INTEGER NOT NULL, count INTEGER NOT NULL, time TEXT NOT NULL,
  PRIMARY KEY (study, attempt, part)) STRICT, WITHOUT ROWID;
CREATE TABLE participant_sets (
  study TEXT NOT NULL REFERENCES studies, round INTEGER NOT NULL, sites TEXT NOT NULL,
  PRIMARY KEY (study, round, sites)) STRICT, WITHOUT ROWID;
CREATE TRIGGER audit_is_append_only_u BEFORE UPDATE ON audit
  BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_is_append_only_d BEFORE DELETE ON audit
  BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER debits_are_append_only_u BEFORE UPDATE ON debits
  BEGIN SELECT RAISE(ABORT, 'debits are never changed'); END;
CREATE TRIGGER debits_are_append_only_d BEFORE DELETE ON debits
  BEGIN SELECT RAISE(ABORT, 'debits are never credited'); END;
"""


def utc_now() -> datetime:
    """The wall clock's time in UTC, aware of its zone."""
    return datetime.now(UTC)


class SiteState:
    """An open state folder, made by `SiteState.create` (once) or `open`; `close` releases it.

    Safe to share between threads; the writes of several processes queue on a lock.
    """

    def __init__(
        self,
        folder: Path,
        db: sqlite3.Connection,
        split: PatientSplit,
        clock: Callable[[], datetime],
        daemon_lock: int | None,
    ) -> None:
        self.folder, self.split, self.clock = folder, split, clock
        self.past = ComposedPast(folder, split)
        self._db, self._daemon_lock = db, daemon_lock
        self._thread_lock = threading.RLock()
        self._write_lock = _lock_file(folder / _WRITE)

    @staticmethod
    def create(
        folder: Path, site: str, public_key: str, *, clock: Callable[[], datetime] = utc_now
    ) -> SiteState:
        """Makes the folder (0700) and everything in it; `public_key` is the site's, in hex.

        Completes an earlier creation that was cut short. Raises WardroundError(STATE) where a
        state exists already, (LEDGER) where one existed and its database is gone.
        """
        try:
            durable_files.make_folder(folder)
            refuse_shared(folder, "state folder")
            split, head = PatientSplit.create(folder), ChainHead.read(folder / _HEAD)
            if head is not None and head.seq > 0 and not (folder / _DATABASE).exists():
                raise WardroundError(
                    Code.LEDGER,
                    f"{folder} had a ledger, and it is gone.",
                    remedy="Put the newest backup of state.sqlite back, then acknowledge it.",
                )
            if head is None and not (folder / _DATABASE).exists():
                ChainHead(0, GENESIS).write(folder / _HEAD)
            make_database(folder / _DATABASE)
            db = _connect(folder / _DATABASE)
            with db_errors(folder):
                db.execute("BEGIN IMMEDIATE")
                if schema_of(db) != 0:
                    db.execute("ROLLBACK")
                    raise WardroundError(
                        Code.STATE,
                        f"{folder} holds a site's state already.",
                        remedy="Name another folder, or start the daemon on this one.",
                    )
                for statement in _SCHEMA.strip().split(";\n"):
                    db.execute(statement)
                db.executemany(
                    "INSERT INTO meta VALUES (?, ?)",
                    [("site", site), ("identity", public_key), ("split", split.check)],
                )
                note_release(db)
                set_schema(db, SCHEMA_VERSION)
                db.execute("COMMIT")
                db.close()
            durable_files.sync(folder)
        except OSError as error:
            raise WardroundError(
                Code.STATE,
                f"{folder} cannot be written: {error.strerror}.",
                remedy="Check free space, the mount and the permissions, or name another folder.",
            ) from None
        return SiteState.open(folder, site, public_key, clock=clock)

    @staticmethod
    def open(
        folder: Path,
        site: str,
        public_key: str,
        *,
        daemon: bool = False,
        clock: Callable[[], datetime] = utc_now,
    ) -> SiteState:
        """Opens a state folder; with `daemon`, locks out a second daemon until `close`.

        A state of an older release is migrated first, and a copy left beside it. Raises
        WardroundError(STATE) for a folder that is not there, is open to other users, is another
        site's or is held by a daemon already; (RELEASE) for one of a newer release; (LEDGER) for a
        damaged or read-only database, and, with `daemon`, for an older copy put back or plans that
        do not agree with the debits.
        """
        database = folder / _DATABASE
        if not database.exists():
            raise WardroundError(
                Code.STATE,
                f"{folder} holds no site's state.",
                remedy="Run `wardround-site init`, or correct `state` in site.yaml.",
            )
        refuse_shared(folder, "state folder")
        refuse_shared(database, "ledger")
        lock = _hold(folder) if daemon else None
        try:
            db = _connect(database)
            with db_errors(folder):
                older = needs_migration(db, database)
                split = _check_owner(db, folder, site, public_key)
                if older:
                    _migrate(db, folder, daemon=daemon)
            state = SiteState(folder, db, split, clock, lock)
            if daemon:
                state.refuse_older()
                state.refuse_miscounted()
        except BaseException:
            if lock is not None:
                os.close(lock)
            raise
        return state

    @contextmanager
    def transaction(self, *, acknowledging: bool = False) -> Iterator[sqlite3.Connection]:
        """All or nothing, durable when the block has been left. One writer at a time.

        Raises WardroundError(LEDGER) where the database cannot be written (full disk, read-only)
        and, unless `acknowledging` it, for an older copy.
        """
        with self._thread_lock, _writing(self.folder, self._write_lock), db_errors(self.folder):
            db = self._db
            db.execute("BEGIN IMMEDIATE")
            try:
                if not acknowledging:
                    self.refuse_older()
                yield db
                db.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    db.execute("ROLLBACK")
                raise
            head = self.head()
            if acknowledging or head != self.mirrored_head():
                head.write(self.folder / _HEAD)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One consistent snapshot."""
        with self._thread_lock, db_errors(self.folder):
            self._db.execute("BEGIN")
            try:
                yield self._db
            finally:
                self._db.execute("ROLLBACK")

    def today(self) -> str:
        """The day by the wall clock in UTC, YYYY-MM-DD."""
        return self.clock().astimezone(UTC).date().isoformat()

    def head(self) -> ChainHead:
        """The newest entry in the database."""
        row = self._db.execute("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1").fetchone()
        return ChainHead(*row) if row else ChainHead(0, GENESIS)

    def mirrored_head(self) -> ChainHead | None:
        """The newest entry that head.json knows of. Raises WardroundError(LEDGER) if damaged."""
        return ChainHead.read(self.folder / _HEAD)

    def refuse_older(self) -> None:
        """Raises WardroundError(LEDGER) unless the database holds the entry that head.json names
        and was not made by `backup`."""
        known = self.mirrored_head()
        with self._thread_lock, db_errors(self.folder):
            copied = self._db.execute("SELECT 1 FROM meta WHERE key = 'backup'").fetchone()
            if known is not None and not copied:
                query = "SELECT seq, hash FROM audit WHERE seq = ?"
                row = self._db.execute(query, (known.seq,)).fetchone()
                if known == ChainHead(*(row or (0, GENESIS))):
                    return
        raise WardroundError(
            Code.LEDGER,
            f"The ledger in {self.folder} is an older copy: it lacks spending that happened.",
            remedy="Put the newest state.sqlite back, or run `wardround-site ledger acknowledge`, "
            "which charges every open study in full.",
        )

    def refuse_miscounted(self) -> None:
        """Raises WardroundError(LEDGER) where a plan says another number of attempts debited than
        its debits do: what was spent is computed from the plans."""
        with self.reading() as db:
            found = db.execute(
                "SELECT study, part, sum(debited), sum(count) FROM ("
                " SELECT study, part, debited, 0 AS count FROM plans"
                " UNION ALL SELECT study, part, 0, count FROM debits)"
                " GROUP BY study, part HAVING sum(debited) != sum(count) LIMIT 1"
            ).fetchone()
        if found is not None:
            study, part, debited, count = found
            raise WardroundError(
                Code.LEDGER,
                f"The ledger in {self.folder} is damaged: the plan of study {study[:12]} counts "
                f"{debited} attempts of {part}, its debits are {count}.",
                remedy="Put the newest backup back, then acknowledge it; keep this one as evidence "
                "(`wardround-site audit verify` says which tables differ from the log).",
            )

    def backup(self, target: Path) -> None:
        """Copies the database while it is in use; to be stored with split.key.

        The copy is marked as one, so that putting it back is always noticed. Raises
        WardroundError(LEDGER).
        """
        refuse_shared(target.parent, "backup folder")
        with db_errors(target.parent), self._thread_lock:
            copy_database(self._db, target)

    def close(self) -> None:
        with self._thread_lock:
            self._db.close()
            self.past.close()
            os.close(self._write_lock)
            if self._daemon_lock is not None:
                os.close(self._daemon_lock)


@contextmanager
def db_errors(folder: Path) -> Iterator[None]:
    """Turns errors of SQLite or the disk into WardroundError(LEDGER), quoting no content."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        reason = getattr(error, "sqlite_errorname", "") or getattr(error, "strerror", "")
        raise WardroundError(
            Code.LEDGER,
            f"The ledger in {folder} cannot be read or written ({reason or type(error).__name__}).",
            remedy="Check free space, the mount and the permissions; training stays refused.",
        ) from None


def _migrate(db: sqlite3.Connection, folder: Path, *, daemon: bool) -> None:
    """Migrates, unless a daemon of the older release works on the folder."""
    lock = None if daemon else _hold(folder)
    write = _lock_file(folder / _WRITE)
    try:
        with _writing(folder, write):
            migrate(db, folder / _DATABASE)
    finally:
        os.close(write)
        if lock is not None:
            os.close(lock)


@contextmanager
def _writing(folder: Path, lock: int) -> Iterator[None]:
    """Holds the write lock, so that there is one writer over all processes."""
    deadline = time.monotonic() + 10
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise WardroundError(
                    Code.LEDGER,
                    f"Another process holds the write lock of {folder}.",
                    remedy="See which wardround-site command is stuck, and end it.",
                ) from None
            time.sleep(0.001)
    try:
        yield
    finally:
        fcntl.flock(lock, fcntl.LOCK_UN)


def _connect(database: Path) -> sqlite3.Connection:
    with db_errors(database.parent):
        db = sqlite3.connect(
            f"{database.resolve().as_uri()}?mode=rw",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=10,
        )
        mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
        db.create_function("reserved", 3, is_reserved, deterministic=True)
        if mode != "wal":
            raise sqlite3.OperationalError
        return db


def _check_owner(db: sqlite3.Connection, folder: Path, site: str, public_key: str) -> PatientSplit:
    """Returns the folder's split secret. Raises WardroundError unless the database is sound and
    site, identity and secret are those that it was made with."""
    if db.execute("PRAGMA quick_check").fetchone()[0] != "ok":
        raise WardroundError(
            Code.LEDGER,
            f"The ledger in {folder} is damaged.",
            remedy="Put the newest backup back, then acknowledge it.",
        )
    meta = dict(db.execute("SELECT key, value FROM meta").fetchall())
    if (meta["site"], meta["identity"]) != (site, public_key):
        raise WardroundError(
            Code.STATE,
            f"The ledger in {folder} belongs to another site or another identity key.",
            remedy="Correct `state`, `site` or `identity` in site.yaml.",
        )
    split = PatientSplit.load(folder)
    if meta["split"] != split.check:
        raise WardroundError(
            Code.STATE,
            f"{folder / SPLIT} is not the secret that this ledger was written with.",
            remedy="Put split.key back from a backup: another one moves patients between bands.",
        )
    return split


def _lock_file(path: Path) -> int:
    with db_errors(path.parent):
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _hold(folder: Path) -> int:
    descriptor = _lock_file(folder / _DAEMON)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise WardroundError(
            Code.STATE,
            f"Another daemon (process {holder}) already works on {folder}.",
            remedy="Stop it first, or give this one its own state folder.",
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor
