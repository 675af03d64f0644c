"""The schema version of a coordinator's folder, and its migration from an older release.

state/schema.json says it; a folder without is one of 0.1.0, which had schema 1. Before a migration
the small files (not weights, checkpoints and logs, which say their own formats or are only ever
appended to) are copied to backup.schema-1/ and so on, beside what they are copies of.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from protocol import durable_files
from protocol.errors import Code, WardroundError
from protocol.release import RELEASE
from server.enrolment.json_store import write_json

FILE = "schema.json"
STEPS: dict[int, Callable[[Path], None]] = {1: lambda folder: None}
"""Schema -> what makes a coordinator's folder one of the next. A step may be cut short by a crash
and run again. 1 to 2: the folder says its schema."""
SCHEMA = max(STEPS) + 1
_COPIED = (
    "coordinator.yaml",
    "roster.json",
    "accounts.json",
    "state/studies/*/study.json",
    "state/studies/*/submission.json",
    "state/studies/*/configuration.json",
)


def version_of(folder: Path) -> int:
    """The schema of a coordinator's folder.

    Raises WardroundError: RELEASE where a newer release wrote it, STATE where that cannot be read.
    """
    path = folder / "state" / FILE
    try:
        plain = json.loads(path.read_bytes())
        schema, release = int(plain["schema"]), str(plain["release"])
    except FileNotFoundError:
        return 1
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WardroundError(
            Code.STATE,
            f"{path} cannot be read ({type(error).__name__}).",
            remedy="Restore it from a backup.",
        ) from None
    if schema > SCHEMA:
        raise WardroundError(
            Code.RELEASE,
            f"{folder} has schema {schema}, of wardround {release[:20]}; this is wardround "
            f"{RELEASE}, which reads schema {SCHEMA} and older.",
            remedy=f"Install wardround {release[:20]}, or restore the folder from a backup of "
            "before the upgrade.",
        )
    return schema


def migrate(folder: Path) -> bool:
    """Makes the folder one of this release; whether there was anything to do. The caller holds it
    against other coordinators.

    Raises WardroundError: what `version_of` raises, STATE where it cannot be written.
    """
    schema = version_of(folder)
    if schema == SCHEMA:
        return False
    try:
        _back_up(folder, folder / f"backup.schema-{schema}")
        for step in range(schema, SCHEMA):
            STEPS[step](folder)
        note(folder)
    except OSError as error:
        raise WardroundError(
            Code.STATE,
            f"{folder} cannot be migrated to schema {SCHEMA}: {error.strerror}.",
            remedy="Check free space and permissions, then start again; nothing is lost.",
        ) from None
    return True


def note(folder: Path) -> None:
    """Writes down that the folder is one of this release."""
    write_json(folder / "state" / FILE, {"schema": SCHEMA, "release": RELEASE})


def _back_up(folder: Path, target: Path) -> None:
    if target.exists():
        return
    partial = target.with_name(f".{target.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700)
    for pattern in _COPIED:
        for file in sorted(folder.glob(pattern)):
            copy = partial / file.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            durable_files.write(copy, file.read_bytes(), durable=False)
    durable_files.move(partial, target)
