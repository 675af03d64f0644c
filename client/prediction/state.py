"""What a site has scored, and the reports that wait to be sent: state/predictions.db, 0600.

    scored        model (the bundle's digest), record (`selection.RECORD`), time
    watched       for models that the policy lets be counted: by month (UTC) and patient (a keyed
                  hash) the first prediction and what it was made from, as JSON; two years of it
    outbox        reports in the order in which they are to be sent, with why one was given up
    about         by UID of a report the keyed hash of its patient (`prediction.about`)
    destination   by AE title: failures in a row, when to try again, how many were taken

Durable on return. A record counts as scored in the transaction that puts its report into the
outbox: whenever a process is killed, both are there or neither. A report is deleted once it was
taken.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from protocol.errors import Code, WardroundError
from protocol.secret_files import make_database, refuse_shared

FILE = "predictions.db"
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 900.0
"""Seconds before a destination that failed is tried again: twice as long each time."""
_MONTH = len("2026-01")
_KEPT_YEARS = 2
_SCHEMA = """
CREATE TABLE IF NOT EXISTS scored (
  model TEXT NOT NULL, record TEXT NOT NULL, time TEXT NOT NULL,
  PRIMARY KEY (model, record)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS watched (
  model TEXT NOT NULL, month TEXT NOT NULL, patient BLOB NOT NULL, said TEXT NOT NULL,
  PRIMARY KEY (model, month, patient)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outbox (
  number INTEGER PRIMARY KEY AUTOINCREMENT, destination TEXT NOT NULL, uid TEXT NOT NULL,
  model TEXT NOT NULL, report BLOB NOT NULL, added REAL NOT NULL, given_up TEXT,
  UNIQUE (destination, uid)) STRICT;
CREATE TABLE IF NOT EXISTS about (
  uid TEXT PRIMARY KEY, patient BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS destination (
  title TEXT PRIMARY KEY, failures INTEGER NOT NULL DEFAULT 0, again REAL NOT NULL DEFAULT 0,
  why TEXT NOT NULL DEFAULT '', taken INTEGER NOT NULL DEFAULT 0) STRICT, WITHOUT ROWID;
"""


_FORGET = "DELETE FROM about WHERE uid NOT IN (SELECT uid FROM outbox)"


@dataclass(frozen=True)
class Report:
    """A DICOM object for a destination. model: digest of the bundle. added: seconds since 1970."""

    number: int
    destination: str
    model: str
    content: bytes
    added: float


@dataclass(frozen=True)
class Delivery:
    """How a destination does. why: its last failure, "" where it takes what it is sent. given_up:
    reason -> how many reports."""

    waiting: int
    taken: int
    why: str
    given_up: Mapping[str, int]

    def __str__(self) -> str:
        parts = [f"{self.taken} reports taken", f"{self.waiting} waiting"]
        parts += [f"since {self.why}"] if self.why and self.waiting else []
        return ", ".join(parts + [f"{n} given up: {why}" for why, n in self.given_up.items()])


class PredictionState:
    """An open file. clock: seconds since 1970. Its methods raise WardroundError(STATE) where it
    cannot be read or written."""

    def __init__(
        self, db: sqlite3.Connection, path: Path, clock: Callable[[], float] = time.time
    ) -> None:
        self._db, self._path, self.clock = db, path, clock

    @staticmethod
    @contextmanager
    def open(state: Path) -> Iterator[PredictionState]:
        """The file in a state folder, made where there is none."""
        path = state / FILE
        refuse_shared(state, "state folder")
        with _errors(path):
            make_database(path)
            refuse_shared(path, "file of predictions")
            db = sqlite3.connect(path, isolation_level=None, timeout=30)
        try:
            with _errors(path):
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("PRAGMA synchronous = FULL")
                db.execute("PRAGMA secure_delete = ON")
                db.executescript(_SCHEMA)
            yield PredictionState(db, path)
        finally:
            db.close()

    def scored(self, model: str) -> frozenset[str]:
        """The records that a model has scored."""
        with _errors(self._path):
            rows = self._db.execute("SELECT record FROM scored WHERE model = ?", (model,))
            return frozenset(record for (record,) in rows)

    def add(
        self,
        model: str,
        records: Iterable[str],
        destinations: Iterable[str] = (),
        reports: Mapping[str, bytes] | None = None,
        watched: Iterable[tuple[bytes, str]] = (),
        about: Mapping[str, bytes] | None = None,
    ) -> None:
        """Records that were scored, and their reports (UID -> DICOM object) for destinations, in
        this order; all or none. A report that is there already stays as it is, and so does what a
        patient's first prediction of this month said. watched: patient -> that, as JSON.
        about: UID of a report -> its patient."""
        now = self.clock()
        day = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")
        with self._transaction():
            self._db.executemany(
                "INSERT OR IGNORE INTO scored VALUES (?, ?, ?)",
                ((model, record, day) for record in records),
            )
            self._db.executemany(
                "INSERT OR IGNORE INTO watched VALUES (?, ?, ?, ?)",
                ((model, day[:_MONTH], patient, said) for patient, said in watched),
            )
            year, month = int(day[:4]) - _KEPT_YEARS, day[4:_MONTH]
            self._db.execute("DELETE FROM watched WHERE month < ?", (f"{year:04}{month}",))
            self._db.executemany("INSERT OR IGNORE INTO about VALUES (?, ?)", (about or {}).items())
            for title in destinations:
                self._db.execute("INSERT OR IGNORE INTO destination (title) VALUES (?)", (title,))
                self._db.executemany(
                    "INSERT OR IGNORE INTO outbox (destination, uid, model, report, added)"
                    " VALUES (?, ?, ?, ?, ?)",
                    ((title, uid, model, report, now) for uid, report in (reports or {}).items()),
                )

    def watched(self, model: str, since: str, until: str) -> list[tuple[bytes, str]]:
        """Patient, and what was said: of the months from since to until, the earlier first."""
        with _errors(self._path):
            return self._db.execute(
                "SELECT patient, said FROM watched WHERE model = ? AND month BETWEEN ? AND ?"
                " ORDER BY month, patient",
                (model, since, until),
            ).fetchall()

    def due(self) -> list[str]:
        """The destinations for which something waits, and whose pause is over."""
        with _errors(self._path):
            rows = self._db.execute(
                "SELECT title FROM destination WHERE again <= ? AND EXISTS (SELECT 1 FROM outbox"
                " WHERE destination = title AND given_up IS NULL) ORDER BY title",
                (self.clock(),),
            )
            return [title for (title,) in rows]

    def next_report(self, destination: str, after: int = 0) -> Report | None:
        """The first that waits with a number above `after`."""
        with _errors(self._path):
            row = self._db.execute(
                "SELECT number, destination, model, report, added FROM outbox WHERE destination = ?"
                " AND given_up IS NULL AND number > ? ORDER BY number LIMIT 1",
                (destination, after),
            ).fetchone()
            return None if row is None else Report(*row)

    def taken(self, report: Report) -> None:
        """The destination has it: it is deleted here."""
        with self._transaction():
            self._db.execute("DELETE FROM outbox WHERE number = ?", (report.number,))
            self._db.execute(_FORGET)
            self._db.execute(
                "UPDATE destination SET taken = taken + 1, failures = 0, again = 0, why = ''"
                " WHERE title = ?",
                (report.destination,),
            )

    def give_up(self, report: Report, why: str) -> None:
        """It is kept, and not sent before `send_again`."""
        with self._transaction():
            self._db.execute(
                "UPDATE outbox SET given_up = ? WHERE number = ?", (why, report.number)
            )

    def withdraw(self, patients: Iterable[bytes]) -> int:
        """Deletes all reports about these patients, those given up too; returns how many."""
        with self._transaction():
            before = self._db.total_changes
            self._db.executemany(
                "DELETE FROM outbox WHERE uid IN (SELECT uid FROM about WHERE patient = ?)",
                ((patient,) for patient in patients),
            )
            number = self._db.total_changes - before
            self._db.execute(_FORGET)
            return number

    def put_off(self, destination: str, why: str) -> None:
        """Nothing is sent there for FIRST_PAUSE, and for twice as long with each failure."""
        with self._transaction():
            self._db.execute(
                "UPDATE destination SET why = ?, again = ? + min(?, ? * (1 << min(failures, 20))),"
                " failures = failures + 1 WHERE title = ?",
                (why, self.clock(), LONGEST_PAUSE, FIRST_PAUSE, destination),
            )

    def send_again(self) -> int:
        """Lets what was given up wait again, as if it were new; returns how many."""
        with self._transaction():
            self._db.execute("UPDATE destination SET failures = 0, again = 0")
            return self._db.execute(
                "UPDATE outbox SET given_up = NULL, added = ? WHERE given_up IS NOT NULL",
                (self.clock(),),
            ).rowcount

    def deliveries(self) -> dict[str, Delivery]:
        """By AE title."""
        with _errors(self._path):
            found = {}
            for title, taken, why in self._db.execute("SELECT title, taken, why FROM destination"):
                counts = dict(
                    self._db.execute(
                        "SELECT given_up, count(*) FROM outbox WHERE destination = ?"
                        " GROUP BY given_up",
                        (title,),
                    ).fetchall()
                )
                found[title] = Delivery(counts.pop(None, 0), taken, why, counts)
            return found

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with _errors(self._path), self._db:
            self._db.execute("BEGIN IMMEDIATE")
            yield


def deliveries(state: Path) -> dict[str, Delivery]:
    """As `PredictionState.deliveries`, writing nothing; empty where nothing was ever scored."""
    path = state / FILE
    if not path.exists():
        return {}
    with _errors(path), closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
        return PredictionState(db, path).deliveries()


def backup(state: Path, target: Path) -> bool:
    """Copies the file while it is in use, 0600; False where nothing was ever scored. A report that
    is in a copy may have been sent since: sent again, it is one object in the PACS.

    Raises WardroundError(STATE)."""
    path = state / FILE
    if not path.exists():
        return False
    with _errors(path), closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with closing(sqlite3.connect(target)) as copy:
            db.backup(copy)
    return True


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise WardroundError(
            Code.STATE,
            f"{path} cannot be read or written ({type(error).__name__}).",
            remedy="Is the disk full? A damaged file may be moved away: what it names is then "
            "scored again, and what waited in it is lost.",
        ) from None
