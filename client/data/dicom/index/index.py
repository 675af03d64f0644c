"""The site's index of images: one SQLite file in the state folder, one row per file.

    imaging.db      each file's header (client/data/dicom/objects/header.py) and the result of
                    screening its pixels; 0600, and no identifier in it but the files' own names
    pseudonym.key   the secret of the pseudonyms in it

Whether an instance is ready is never stored: every query derives it from the rows and today's
policy, so that an index cannot be staler than site.yaml.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from client.data.dicom.objects.attributes import ATTRIBUTES, COLUMNS, DOSE_COLUMNS
from client.data.dicom.objects.gate import SUSPICIONS, GatePolicy, Reason
from client.data.dicom.objects.pseudonym import Pseudonyms
from protocol.errors import Code, WardroundError
from protocol.secret_files import refuse_shared

FILE = "imaging.db"
SCHEMA_VERSION = 1
Seen = Literal["clear", "text", "undecodable"]
"""The result of screening the pixels."""

_STORED = (*COLUMNS, *DOSE_COLUMNS)
_OWN = ("path", "size", "mtime_ns", "problem", "reason", "suspicion", "sop_class", "syntax")
_TYPES = {a.column: "REAL" if a.kind == "number" else "TEXT" for a in ATTRIBUTES}
_SCHEMA = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE instance (
  path BLOB PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
  problem TEXT, reason TEXT, suspicion TEXT, sop_class TEXT, syntax TEXT,
  {", ".join(f"{c} {_TYPES.get(c, 'REAL')}" for c in _STORED)},
  seen TEXT, content TEXT) STRICT, WITHOUT ROWID;
CREATE INDEX instance_image ON instance (image);
CREATE INDEX instance_unseen ON instance (path)
  WHERE problem IS NULL AND reason IS NULL AND seen IS NULL;
CREATE TABLE review (
  image TEXT PRIMARY KEY, decision TEXT NOT NULL, time TEXT NOT NULL) STRICT;
"""
_FIRST = "PARTITION BY image ORDER BY coalesce(seen, '') = 'undecodable', mtime_ns DESC, path"
_OBJECT = (
    "coalesce(patient,'')||coalesce(study,'')||coalesce(series,'')||coalesce(rows,0)||'x'"
    "||coalesce(columns,0)"
)
_VERDICTS = f"""
SELECT instance.*, review.decision, CASE
  WHEN problem IS NOT NULL THEN problem
  WHEN reason IS NOT NULL THEN reason
  WHEN min({_OBJECT}) OVER company <> max({_OBJECT}) OVER company THEN '{Reason.TWO_OBJECTS}'
  WHEN row_number() OVER ({_FIRST}) > 1 THEN '{Reason.COPY}'
  WHEN accession IS NOT NULL AND min(patient) OVER (PARTITION BY accession)
    <> max(patient) OVER (PARTITION BY accession) THEN '{Reason.TWO_PATIENTS_ACCESSION}'
  WHEN min(patient) OVER (PARTITION BY study) <> max(patient) OVER (PARTITION BY study)
    THEN '{Reason.TWO_PATIENTS_STUDY}'
  WHEN seen = 'undecodable' THEN '{Reason.UNDECODABLE}'
  WHEN decision = 'release' THEN NULL
  WHEN decision = 'withhold' THEN '{Reason.WITHHELD}'
  WHEN suspicion IS NOT NULL AND NOT (suspicion = '{Reason.AT_RISK}'
    AND modality IN (SELECT value FROM json_each(:accepted))) THEN suspicion
  WHEN NOT :detect THEN NULL
  WHEN seen IS NULL THEN '{Reason.NOT_LOOKED}'
  WHEN seen = 'text' THEN '{Reason.TEXT}'
  END AS verdict
FROM instance LEFT JOIN review USING (image)
WINDOW company AS (PARTITION BY image)
"""


@dataclass(frozen=True)
class ImageRow:
    """One file as the index stores it. `values`: see `client.data.dicom.objects.header.Header`."""

    path: Path
    size: int
    mtime_ns: int
    problem: str | None
    reason: str | None = None
    suspicion: str | None = None
    sop_class: str | None = None
    syntax: str | None = None
    values: Mapping[str, str | float | None] | None = None


@dataclass(frozen=True)
class SetAsideFile:
    """One file that is kept out; its path is for this site's operator only."""

    path: Path
    verdict: str
    image: str | None
    modality: str | None

    @property
    def releasable(self) -> bool:
        return self.image is not None and self.verdict in SUSPICIONS


class ImageIndex:
    """An open index. One thread at a time; several processes may have it open."""

    def __init__(self, db: sqlite3.Connection, names: Pseudonyms, policy: GatePolicy) -> None:
        self.names = names
        self.policy = policy
        self._db = db

    @staticmethod
    def open(state: Path, policy: GatePolicy | None = None) -> ImageIndex:
        """The index in a state folder, made where there is none. Raises WardroundError(STATE)."""
        path, policy = state / FILE, policy or GatePolicy()
        refuse_shared(state, "state folder")
        with _errors(path):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            refuse_shared(path, "index of images")
            db = sqlite3.connect(path, isolation_level=None, timeout=30)
            try:
                db.row_factory = sqlite3.Row
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("PRAGMA synchronous = NORMAL")
                names = _initialise(db, state, path)
            except BaseException:
                db.close()
                raise
        return ImageIndex(db, names, policy)

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> ImageIndex:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def known(self, under: Path) -> dict[Path, tuple[int, int]]:
        """Files at or below a path -> (size, mtime_ns) when they were read."""
        low = os.fsencode(under)
        rows = self._db.execute(
            "SELECT path, size, mtime_ns FROM instance WHERE path = ? OR (path > ? AND path < ?)",
            (low, low.rstrip(b"/") + b"/", low.rstrip(b"/") + b"0"),
        )
        return {_path(row[0]): (row[1], row[2]) for row in rows}

    def put(self, rows: Iterable[ImageRow]) -> None:
        """Writes rows; they replace earlier rows of the same files."""
        names = (*_OWN, *_STORED)
        marks = ", ".join("?" * len(names))
        statement = f"INSERT OR REPLACE INTO instance ({', '.join(names)}) VALUES ({marks})"
        with self._writing():
            self._db.executemany(statement, map(_flat, rows))

    def forget(self, paths: Iterable[Path]) -> None:
        """Removes files that are gone."""
        with self._writing():
            self._db.executemany(
                "DELETE FROM instance WHERE path = ?", ((os.fsencode(p),) for p in paths)
            )

    def unseen(self) -> list[Path]:
        """Images whose pixels have not been screened yet."""
        rows = self._db.execute(
            "SELECT path FROM instance"
            " WHERE problem IS NULL AND reason IS NULL AND seen IS NULL ORDER BY path"
        )
        return [_path(row[0]) for row in rows]

    def saw(self, findings: Iterable[tuple[Path, Seen, str | None]]) -> None:
        """Writes results of screening: (file, result, SHA-256 of the file's content)."""
        with self._writing():
            self._db.executemany(
                "UPDATE instance SET seen = ?, content = ? WHERE path = ?",
                ((seen, content, os.fsencode(path)) for path, seen, content in findings),
            )

    def ready(self) -> list[dict[str, Any]]:
        """The instances that the gate lets through, by column of `attributes.COLUMNS`, with their
        study's dose report. Ordered by image."""
        dose = (
            "SELECT study AS reported, sum(dlp) AS dlp, max(ctdivol_report) AS ctdivol_report"
            " FROM instance WHERE dlp IS NOT NULL OR ctdivol_report IS NOT NULL GROUP BY study"
        )
        columns = ", ".join(f"v.{c}" for c in COLUMNS)
        rows = self._judged(
            f"SELECT {columns}, dose.dlp, dose.ctdivol_report FROM ({_VERDICTS}) AS v"
            f" LEFT JOIN ({dose}) AS dose ON dose.reported = v.study"
            " WHERE v.verdict IS NULL ORDER BY v.image"
        )
        return [dict(row) for row in rows]

    def paths(self, keys: Iterable[str]) -> dict[str, Path]:
        """Keys of ready images -> their files. A key of an image that is not there, or that the
        gate keeps out, is left out."""
        wanted = set(keys)
        rows = self._judged(f"SELECT image, path FROM ({_VERDICTS}) WHERE verdict IS NULL")
        return {image: _path(path) for image, path in rows if image in wanted}

    def counts(self) -> dict[str, int]:
        """Verdict -> number of files; "" is ready."""
        rows = self._judged(f"SELECT verdict, count(*) FROM ({_VERDICTS}) GROUP BY verdict")
        return {row[0] or "": row[1] for row in rows}

    def kept_out(self, verdicts: Sequence[str] = ()) -> Iterator[SetAsideFile]:
        """Every file that is kept out, or those with one of the verdicts; by path."""
        rows = self._judged(
            f"SELECT path, verdict, image, modality FROM ({_VERDICTS})"
            " WHERE verdict IS NOT NULL ORDER BY path"
        )
        for path, verdict, image, modality in rows:
            if not verdicts or verdict in verdicts:
                yield SetAsideFile(_path(path), verdict, image, modality)

    def whole_keys(self, starts: Iterable[str]) -> list[str]:
        """Keys of images by their first digits, 8 or more. Raises WardroundError(USAGE) for what
        is no start of one key."""
        keys = []
        for start in starts:
            matches = self._db.execute(
                "SELECT DISTINCT image FROM instance WHERE substr(image, 1, ?) = ? LIMIT 2",
                (len(start), start.lower()),
            ).fetchall()
            if len(matches) != 1 or len(start) < 8:
                raise WardroundError(
                    Code.USAGE,
                    f"{start} is the start of {'more than one' if matches else 'no'} key.",
                    remedy="Give 8 digits or more, as on the contact sheet.",
                )
            keys.append(str(matches[0][0]))
        return keys

    def review(self, images: Iterable[str], decision: Literal["release", "withhold"]) -> int:
        """Writes a person's decision on images, by key; returns how many are in the index."""
        time = datetime.now(UTC).isoformat(timespec="seconds")
        with self._writing():
            written = self._db.executemany(
                "INSERT OR REPLACE INTO review"
                " SELECT DISTINCT image, ?, ? FROM instance WHERE image = ?",
                ((decision, time, image) for image in images),
            )
        return max(0, written.rowcount)

    def _judged(self, select: str) -> sqlite3.Cursor:
        """A SELECT from `_VERDICTS` under today's policy."""
        accepted = json.dumps(sorted(self.policy.accept_modalities))
        return self._db.execute(select, {"accepted": accepted, "detect": self.policy.detect_text})

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with _errors(Path(FILE)), self._db:  # commits, or rolls back
            self._db.execute("BEGIN IMMEDIATE")
            yield


def exists(state: Path) -> bool:
    """Whether this site has an index of images at all."""
    return (state / FILE).exists()


def _initialise(db: sqlite3.Connection, state: Path, path: Path) -> Pseudonyms:
    """The secret; schema and secret are made together, once."""
    db.execute("BEGIN IMMEDIATE")
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version == 0:
        names = Pseudonyms.create(state)
        for statement in _SCHEMA.split(";\n"):
            db.execute(statement)
        db.execute("INSERT INTO meta VALUES ('pseudonyms', ?)", (names.check,))
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    db.execute("COMMIT")
    if version not in (0, SCHEMA_VERSION):
        raise WardroundError(
            Code.STATE,
            f"{path} has schema {version}; this version reads {SCHEMA_VERSION}.",
            remedy="Remove it and index again: it holds nothing that is not in the files.",
        )
    names = Pseudonyms.load(state)
    if db.execute("SELECT value FROM meta WHERE key = 'pseudonyms'").fetchone()[0] != names.check:
        raise WardroundError(
            Code.STATE,
            f"{path} was made with another secret of pseudonyms.",
            remedy="Put pseudonym.key back from a backup, or remove imaging.db and index again.",
        )
    return names


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        known = getattr(error, "sqlite_errorname", "") or getattr(error, "strerror", "")
        raise WardroundError(
            Code.STATE,
            f"The index {path} cannot be read or written ({known or type(error).__name__}).",
            remedy="Check free space, the mount and the permissions; if it is damaged, remove it "
            "and index again.",
        ) from None


def _flat(row: ImageRow) -> tuple[Any, ...]:
    values = row.values or {}
    own = (os.fsencode(row.path), row.size, row.mtime_ns, row.problem, row.reason, row.suspicion)
    return (*own, row.sop_class, row.syntax, *(values.get(column) for column in _STORED))


def _path(stored: bytes) -> Path:
    return Path(os.fsdecode(stored))
