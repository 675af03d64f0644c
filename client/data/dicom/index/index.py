"""The site's index of images: one SQLite file in the state folder, one row per file.

    imaging.db      each file's header (client/data/dicom/objects/header.py) and the result of
                    screening its pixels; 0600, and no identifier in it but the files' own names
    decisions.db    what a person decided (image_decisions.py); it stays when imaging.db is removed
    pseudonym.key   the secret of the pseudonyms in both

Whether an instance is ready is never stored: every query derives it from the rows and today's
policy, so that an index cannot be staler than site.yaml. What failed for a reason that passes
(time, memory, a decoder that ended its process) is no property of the file: it is tried again, each
time after a longer while.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from client.data.dicom.index import image_decisions
from client.data.dicom.index.image_decisions import Decision
from client.data.dicom.objects import dose_report
from client.data.dicom.objects.attributes import ATTRIBUTES, COLUMNS, DOSE_COLUMNS, DOSE_LINKS
from client.data.dicom.objects.gate import RULES, SUSPICIONS, GatePolicy, Reason
from client.data.dicom.objects.header import TRANSIENT as TRANSIENT_PROBLEMS
from client.data.dicom.objects.header import Problem
from client.data.dicom.objects.pseudonym import Pseudonyms
from protocol.errors import Code, WardroundError
from protocol.secret_files import make_database, refuse_shared

FILE = "imaging.db"
SCHEMA_VERSION = 3
Seen = Literal["clear", "text", "undecodable"]
"""The result of screening the pixels."""
Stamp = tuple[int, int]
"""A file's size and time of last change in ns: while both stay, so does its content."""


@dataclass(frozen=True)
class Finding:
    """What screening one file gave: `seen` of the file as `stamp` says it was, and the SHA-256 of
    its content; or a reason that passes, and then no stamp. why: what makes it undecodable, of
    `client.data.dicom.pixels.faults.PixelFault`."""

    seen: Seen | Reason
    content: str | None = None
    stamp: Stamp | None = None
    why: str | None = None


_Values = Sequence[Any] | Mapping[str, Any]
_STORED = (*COLUMNS, *dose_report.STORED, "mask_of")
"""mask_of: the key of the picture that a segmentation is of."""
_OWN = ("path", "size", "mtime_ns", "problem", "reason", "suspicions", "sop_class", "syntax")
_TYPES = {a.column: "REAL" if a.kind == "number" else "TEXT" for a in ATTRIBUTES}
_TYPES |= dict.fromkeys((*DOSE_LINKS, "mask_of"), "TEXT")
_SCHEMA = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE instance (
  path BLOB PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
  problem TEXT, reason TEXT, suspicions TEXT, sop_class TEXT, syntax TEXT,
  {", ".join(f"{c} {_TYPES.get(c, 'REAL')}" for c in _STORED)},
  seen TEXT, content TEXT,
  why TEXT, tries INTEGER NOT NULL DEFAULT 0, again REAL) STRICT, WITHOUT ROWID;
CREATE INDEX instance_image ON instance (image);
CREATE INDEX instance_unseen ON instance (path)
  WHERE problem IS NULL AND reason IS NULL AND seen IS NULL;
CREATE INDEX instance_again ON instance (again) WHERE again IS NOT NULL;
"""
_DIGITS, _AND = 12, "-"
_FIRST = "PARTITION BY image ORDER BY coalesce(seen, '') = 'undecodable', mtime_ns DESC, path"
_OBJECT = (
    "coalesce(patient,'')||coalesce(study,'')||coalesce(series,'')||coalesce(rows,0)||'x'"
    "||coalesce(columns,0)"
)
_DOUBT = f"""(
    SELECT value FROM json_each(suspicions) WHERE NOT (value = '{Reason.HEAD}' AND :heads)
      AND NOT (value = '{Reason.AT_RISK}'
        AND coalesce(modality, '') IN (SELECT value FROM json_each(:accepted))) LIMIT 1)"""
"""The first of the header's suspicions that the policy does not accept."""
_VERDICTS = f"""
SELECT instance.*, CASE
  WHEN problem IS NOT NULL THEN problem
  WHEN reason IS NOT NULL THEN reason
  WHEN min({_OBJECT}) OVER company <> max({_OBJECT}) OVER company THEN '{Reason.TWO_OBJECTS}'
  WHEN row_number() OVER ({_FIRST}) > 1 THEN '{Reason.COPY}'
  WHEN accession IS NOT NULL AND min(patient) OVER (PARTITION BY accession)
    <> max(patient) OVER (PARTITION BY accession) THEN '{Reason.TWO_PATIENTS_ACCESSION}'
  WHEN min(patient) OVER (PARTITION BY study) <> max(patient) OVER (PARTITION BY study)
    THEN '{Reason.TWO_PATIENTS_STUDY}'
  WHEN seen = 'undecodable' THEN coalesce(why, '{Reason.UNDECODABLE}')
  WHEN decision = 'release' THEN NULL
  WHEN image IN (SELECT image FROM decided.review WHERE decision = 'withhold')
    THEN '{Reason.WITHHELD}'
  WHEN {_DOUBT} IS NOT NULL THEN {_DOUBT}
  WHEN NOT :detect THEN NULL
  WHEN seen IS NULL THEN coalesce(why, '{Reason.NOT_LOOKED}')
  WHEN seen = 'text' THEN '{Reason.TEXT}'
  END AS verdict
FROM instance LEFT JOIN decided.review USING (image, content)
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
    suspicions: Sequence[str] = ()
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
    content: str | None = None

    @property
    def key(self) -> str:
        """What names the picture as it was looked at: of image and content the first digits."""
        shown = [part[:_DIGITS] for part in (self.image, self.content) if part]
        return _AND.join(shown)

    @property
    def releasable(self) -> bool:
        return self.image is not None and self.verdict in SUSPICIONS


@dataclass(frozen=True)
class Mask:
    """A segmentation by its key, the key of its picture, and both files."""

    mask: str
    image: str
    file: Path
    picture: Path


class ImageIndex:
    """An open index. One thread at a time; several processes may have it open. clock: seconds
    since 1970. Every method that reads or writes raises WardroundError(STATE) where it cannot."""

    def __init__(
        self,
        db: sqlite3.Connection,
        names: Pseudonyms,
        policy: GatePolicy,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.clock = clock
        self.names = names
        self.policy = policy
        self._db = db

    @staticmethod
    def open(state: Path, policy: GatePolicy | None = None) -> ImageIndex:
        """The index in a state folder, made where there is none. Raises WardroundError(STATE)."""
        path, policy = state / FILE, policy or GatePolicy()
        refuse_shared(state, "state folder")
        with _errors(path):
            make_database(path)
            refuse_shared(path, "index of images")
            db = sqlite3.connect(path, isolation_level=None, timeout=30)
            try:
                db.row_factory = sqlite3.Row
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("PRAGMA synchronous = NORMAL")
                image_decisions.attach(db, state)
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

    def version(self) -> tuple[int, int]:
        """Of the index and of the decisions: another one after whatever another connection wrote
        (SQLite, PRAGMA data_version)."""
        (index,), (decided,) = (
            self._read(f"PRAGMA {name}.data_version")[0] for name in ("main", "decided")
        )
        return index, decided

    def known(self, under: Path) -> dict[Path, Stamp]:
        """Files at or below a path -> their stamps when they were read."""
        low = os.fsencode(under)
        rows = self._read(
            "SELECT path, size, mtime_ns FROM instance WHERE path = ? OR (path > ? AND path < ?)",
            (low, low.rstrip(b"/") + b"/", low.rstrip(b"/") + b"0"),
        )
        return {_path(row[0]): (row[1], row[2]) for row in rows}

    def to_read_again(self) -> set[Path]:
        """Files that were not read for a reason that passes, and whose time has come."""
        rows = self._read(
            "SELECT path FROM instance WHERE again <= ? AND problem IS NOT NULL", (self.clock(),)
        )
        return {_path(row[0]) for row in rows}

    def put(self, rows: Iterable[ImageRow]) -> None:
        """Writes rows; they replace earlier rows of the same files."""
        names = (*_OWN, *_STORED)
        marks = ", ".join("?" * len(names))
        same = "size = excluded.size AND mtime_ns = excluded.mtime_ns"
        statement = (
            f"INSERT INTO instance ({', '.join(names)}) VALUES ({marks}) ON CONFLICT (path) DO "
            f"UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in names[1:])},"
            " seen = NULL, why = NULL, again = NULL,"
            f" content = CASE WHEN {same} THEN content END,"
            f" tries = CASE WHEN {same} AND excluded.problem IN ({_quoted(TRANSIENT_PROBLEMS)})"
            " THEN tries ELSE 0 END"
        )
        with self._writing():
            for row in rows:
                self._db.execute(statement, _flat(row))
                if row.problem in TRANSIENT_PROBLEMS:
                    self._put_off(row.path)

    def forget(self, paths: Iterable[Path]) -> None:
        """Removes files that are gone."""
        with self._writing():
            self._db.executemany(
                "DELETE FROM instance WHERE path = ?", ((os.fsencode(p),) for p in paths)
            )

    def unseen(self) -> list[Path]:
        """Images whose pixels have not been screened yet, and are not put off."""
        rows = self._read(
            "SELECT path FROM instance WHERE problem IS NULL AND reason IS NULL AND seen IS NULL"
            " AND coalesce(again, 0) <= ? ORDER BY path",
            (self.clock(),),
        )
        return [_path(row[0]) for row in rows]

    def saw(self, findings: Iterable[tuple[Path, Finding]]) -> None:
        """Writes results of screening. What was seen of a file that has changed since its header
        was read is passed over: it is read again, and looked at then."""
        with self._writing():
            for path, found in findings:
                name = os.fsencode(path)
                if found.stamp is None:
                    self._db.execute(
                        "UPDATE instance SET why = ? WHERE path = ? AND seen IS NULL",
                        (found.seen, name),
                    )
                    self._put_off(path)
                else:
                    self._db.execute(
                        "UPDATE instance SET seen = ?, content = ?, why = ?, again = NULL,"
                        " tries = 0 WHERE path = ? AND size = ? AND mtime_ns = ?",
                        (found.seen, found.content, found.why, name, *found.stamp),
                    )

    def _put_off(self, path: Path) -> None:
        """A minute at first, then four times as long each time, a day at most."""
        self._db.execute(
            "UPDATE instance SET tries = min(tries + 1, 10), again = ?"
            " + min(86400.0, 60.0 * (1 << 2 * min(tries, 9))) WHERE path = ?",
            (self.clock(), os.fsencode(path)),
        )

    def ready(self) -> list[dict[str, Any]]:
        """The instances that the gate lets through, by column of `attributes.COLUMNS`, with their
        study's dose report. Ordered by image."""
        rows = self._judged(
            f"SELECT {', '.join(COLUMNS)} FROM ({_VERDICTS}) WHERE verdict IS NULL ORDER BY image"
        )
        doses, nothing = self._doses(), dose_report.StudyDose(None, None)
        return [
            dict(row) | dict(zip(DOSE_COLUMNS, doses.get(row["study"], nothing), strict=True))
            for row in rows
        ]

    def _doses(self) -> dict[str, dose_report.StudyDose]:
        """Study -> what its dose reports come to."""
        reports: dict[str, list[tuple[str, dose_report.DoseReport]]] = {}
        stored = ", ".join(dose_report.STORED)
        for study, name, *stated in self._read(
            f"SELECT study, coalesce(image, path), {stored} FROM instance"
            f" WHERE coalesce({stored}) IS NOT NULL ORDER BY path"
        ):
            report = dose_report.DoseReport.of_columns(*stated)
            reports.setdefault(study, []).append((name, report))
        return {study: dose_report.of_study(found) for study, found in reports.items()}

    def patients(self) -> list[tuple[str, str]]:
        """Each patient of an image, ready or not, and the patient's ID whoever issued it: the
        columns `patient` and `patient_id`."""
        rows = self._read(
            "SELECT DISTINCT patient, patient_id FROM instance WHERE patient IS NOT NULL"
        )
        return [(row[0], row[1]) for row in rows]

    def paths(self, keys: Iterable[str]) -> dict[str, Path]:
        """Keys of ready images -> their files. A key of an image that is not there, that the gate
        keeps out, or whose file is no longer the one that was judged, is left out."""
        wanted = set(keys)
        rows = self._judged(
            f"SELECT image, path, size, mtime_ns FROM ({_VERDICTS}) WHERE verdict IS NULL"
        )
        return {
            image: _path(path)
            for image, path, *stamp in rows
            if image in wanted and stamp_of(_path(path)) == tuple(stamp)
        }

    def masks(self) -> list[Mask]:
        """The segmentations of ready images, of the same patient; of several files of one
        segmentation the newest. Ordered by key."""
        rows = self._judged(
            "SELECT mask.image, ready.image, mask.path, ready.path, max(mask.mtime_ns)"
            f" FROM instance AS mask JOIN ({_VERDICTS}) AS ready ON ready.image = mask.mask_of"
            " AND ready.patient = mask.patient WHERE verdict IS NULL AND mask.problem IS NULL"
            " AND mask.image IS NOT NULL GROUP BY mask.image ORDER BY mask.image"
        )
        return [Mask(row[0], row[1], _path(row[2]), _path(row[3])) for row in rows]

    def counts(self) -> dict[str, int]:
        """Verdict -> number of files; "" is ready."""
        rows = self._judged(f"SELECT verdict, count(*) FROM ({_VERDICTS}) GROUP BY verdict")
        return {row[0] or "": row[1] for row in rows}

    def kept_out(self, verdicts: Sequence[str] = ()) -> Iterator[SetAsideFile]:
        """Every file that is kept out, or those with one of the verdicts; by path."""
        rows = self._judged(
            f"SELECT path, verdict, image, modality, content FROM ({_VERDICTS})"
            " WHERE verdict IS NOT NULL ORDER BY path"
        )
        for path, verdict, image, modality, content in rows:
            if not verdicts or verdict in verdicts:
                yield SetAsideFile(_path(path), verdict, image, modality, content)

    def whole_keys(self, starts: Iterable[str]) -> list[str]:
        """Keys of images by their first digits, 8 or more, and where they name a content, by its
        first digits too: image-content. Raises WardroundError(USAGE) for what is no start of one
        key."""
        keys = []
        for start in starts:
            image, _, content = start.lower().partition(_AND)
            matches = self._read(
                "SELECT DISTINCT image || iif(?, ? || content, '') FROM instance WHERE"
                " substr(image, 1, ?) = ? AND substr(coalesce(content, ''), 1, ?) = ? LIMIT 2",
                (bool(content), _AND, len(image), image, len(content), content),
            )
            if len(matches) != 1 or len(image) < 8:
                raise WardroundError(
                    Code.USAGE,
                    f"{start} is the start of {'more than one' if matches else 'no'} key.",
                    remedy="Give 8 digits or more, as on the contact sheet.",
                )
            keys.append(str(matches[0][0]))
        return keys

    def review(self, keys: Iterable[str], decision: Decision) -> int:
        """Writes a person's decision on images, by key (`whole_keys`); returns on how many.

        A decision is about bytes: those that the index holds, or that the key names. A release
        holds for no others; a withheld image stays so, whatever its bytes, until these very bytes
        are released. A file that has changed or gone since it was indexed is passed over.
        """
        decided = set()
        with self._writing():
            for key in keys:
                image, _, content = key.partition(_AND)
                for row in self._db.execute(
                    "SELECT path, size, mtime_ns, content FROM instance WHERE image = ?", (image,)
                ).fetchall():
                    held = row["content"] or self._read_content(row)
                    if held is not None and held.startswith(content):
                        image_decisions.write(self._db, image, held, decision)
                        decided.add(image)
        return len(decided)

    def _read_content(self, row: sqlite3.Row) -> str | None:
        """Of a file whose pixels were not screened: its SHA-256 is read now, and kept."""
        path, stamp = _path(row["path"]), (row["size"], row["mtime_ns"])
        try:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return None
        if stamp_of(path) != stamp:
            return None
        self._db.execute("UPDATE instance SET content = ? WHERE path = ?", (content, row["path"]))
        return content

    def _judged(self, select: str) -> list[sqlite3.Row]:
        """A SELECT from `_VERDICTS` under today's policy."""
        accepted = json.dumps(sorted(self.policy.accept_modalities))
        policy = {"detect": self.policy.detect_text, "heads": self.policy.accept_heads}
        return self._read(select, {"accepted": accepted, **policy})

    def _read(self, select: str, values: _Values = ()) -> list[sqlite3.Row]:
        with _errors(Path(FILE)):
            return self._db.execute(select, values).fetchall()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with _errors(Path(FILE)), self._db:  # commits, or rolls back
            self._db.execute("BEGIN IMMEDIATE")
            yield


def stamp_of(path: Path) -> Stamp | None:
    """None where there is no such file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def exists(state: Path) -> bool:
    """Whether this site has an index of images at all."""
    return (state / FILE).exists()


def _initialise(db: sqlite3.Connection, state: Path, path: Path) -> Pseudonyms:
    """The secret; schema and secret are made together, once. Of an index of 0.1.0 only a person's
    decisions are kept: the files are read again, since their patients are named otherwise now."""
    db.execute("BEGIN IMMEDIATE")
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version == 1:
        image_decisions.take_over(db)
        db.execute("COMMIT")  # durable before what it was taken from goes
        db.execute("BEGIN IMMEDIATE")
        for table in ("instance", "review", "meta"):
            db.execute(f"DROP TABLE IF EXISTS main.{table}")
    if version in (0, 1):
        names = Pseudonyms.create(state)
        for statement in _SCHEMA.split(";\n"):
            db.execute(statement)
        db.execute("INSERT INTO meta VALUES ('pseudonyms', ?)", (names.check,))
        db.execute("INSERT INTO meta VALUES ('rules', ?)", (str(RULES),))
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    elif version == 2:
        db.execute("ALTER TABLE instance ADD COLUMN mask_of TEXT")
        _read_again(db, "WHERE modality = 'SEG'")
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    if version in (2, SCHEMA_VERSION):
        _judge_again(db)
    db.execute("COMMIT")
    if version not in range(SCHEMA_VERSION + 1):
        raise WardroundError(
            Code.STATE,
            f"{path} has schema {version}; this version reads {SCHEMA_VERSION}.",
            remedy="Remove it and index again: it holds nothing that is not in the files, and what "
            f"was released or withheld is in {image_decisions.FILE}.",
        )
    names = Pseudonyms.load(state)
    if db.execute("SELECT value FROM meta WHERE key = 'pseudonyms'").fetchone()[0] != names.check:
        raise WardroundError(
            Code.STATE,
            f"{path} was made with another secret of pseudonyms.",
            remedy="Put pseudonym.key back from a backup, or remove imaging.db and index again.",
        )
    return names


def _judge_again(db: sqlite3.Connection) -> None:
    """What was read and seen by other rules is no longer ready, until it is judged anew."""
    if db.execute("SELECT value FROM meta WHERE key = 'rules'").fetchone()[0] != str(RULES):
        _read_again(db)
        db.execute("UPDATE meta SET value = ? WHERE key = 'rules'", (str(RULES),))


def _read_again(db: sqlite3.Connection, which: str = "") -> None:
    db.execute(f"UPDATE instance SET problem = ?, again = 0 {which}", (Problem.OLD_RULES,))


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        known = getattr(error, "sqlite_errorname", "") or getattr(error, "strerror", "")
        raise WardroundError(
            Code.STATE,
            f"The index {path} cannot be read or written ({known or type(error).__name__}).",
            remedy="Check free space, the mount and the permissions; if it is damaged, remove "
            f"{FILE} and index again, but put {image_decisions.FILE} back from a backup.",
        ) from None


def _flat(row: ImageRow) -> tuple[Any, ...]:
    values = row.values or {}
    own = (os.fsencode(row.path), row.size, row.mtime_ns, row.problem, row.reason)
    doubts = json.dumps(row.suspicions) if row.suspicions else None
    return (*own, doubts, row.sop_class, row.syntax, *(values.get(column) for column in _STORED))


def _quoted(values: Iterable[str]) -> str:
    """Constants of this program as SQL."""
    return ", ".join(f"'{value}'" for value in values)


def _path(stored: bytes) -> Path:
    return Path(os.fsdecode(stored))
