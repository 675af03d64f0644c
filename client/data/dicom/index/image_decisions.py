"""What a person decided who has looked at a picture: released, or withheld; bound to its bytes.

    decisions.db    image (its pseudonym), content (the SHA-256 of the file), decision, time; 0600

A file of its own, since it holds what cannot be made again: imaging.db may be removed at any time,
and this is in every backup.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from protocol.errors import Code, WardroundError
from protocol.secret_files import make_database, refuse_shared

FILE = "decisions.db"
Decision = Literal["release", "withhold"]
_SCHEMA = """CREATE TABLE IF NOT EXISTS decided.review (
  image TEXT NOT NULL, content TEXT NOT NULL, decision TEXT NOT NULL, time TEXT NOT NULL,
  PRIMARY KEY (image, content)) STRICT, WITHOUT ROWID"""


def attach(db: sqlite3.Connection, state: Path) -> None:
    """Makes the decisions visible as `decided.review`. Raises sqlite3.Error, OSError,
    WardroundError(STATE) where others may read them."""
    path = state / FILE
    make_database(path)
    refuse_shared(path, "file of decisions")
    db.execute("ATTACH ? AS decided", (str(path),))
    db.execute("PRAGMA decided.journal_mode = WAL")
    db.execute("PRAGMA decided.synchronous = FULL")
    db.execute(_SCHEMA)


def write(db: sqlite3.Connection, image: str, content: str, decision: Decision) -> None:
    """Replaces an earlier decision on the same bytes of the same image."""
    time = datetime.now(UTC).isoformat(timespec="seconds")
    db.execute(
        "INSERT OR REPLACE INTO decided.review VALUES (?, ?, ?, ?)",
        (image, content, decision, time),
    )


def take_over(db: sqlite3.Connection) -> None:
    """Takes the decisions out of an index of 0.1.0, which named an image but no bytes: they are
    about those that it had looked at. Where it had looked at none, a release is void and a
    withheld image stays withheld."""
    db.execute(
        "INSERT OR IGNORE INTO decided.review"
        " SELECT DISTINCT image, coalesce(instance.content, ''), decision, time"
        " FROM main.review JOIN main.instance USING (image)"
        " WHERE instance.content IS NOT NULL OR decision = 'withhold'"
    )
    db.execute(
        "INSERT OR IGNORE INTO decided.review"
        " SELECT image, '', decision, time FROM main.review WHERE decision = 'withhold'"
    )


def backup(state: Path, target: Path) -> bool:
    """Copies the decisions while others write; False where nobody has decided anything.

    Raises WardroundError(STATE) where they cannot be read whole, or the copy not be written.
    """
    if not (state / FILE).exists():
        return False
    try:
        with (
            closing(sqlite3.connect(state / FILE, timeout=30)) as source,
            closing(sqlite3.connect(target)) as copy,
        ):
            source.backup(copy)
            whole = copy.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok"
    except sqlite3.Error as error:
        raise _uncopied(error.sqlite_errorname) from None
    if not whole:
        raise _uncopied("damaged")
    return True


def _uncopied(why: str) -> WardroundError:
    return WardroundError(
        Code.STATE,
        f"{FILE} cannot be copied ({why}).",
        remedy="Make room; if it is damaged, put it back from an earlier backup.",
    )
