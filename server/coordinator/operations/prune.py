"""Removes what studies that ended long ago need no more: weights, checkpoints, what MLflow took.

What a study was, who submitted it, and all that happened stay: the document, the submission, the
events and the summary, from which the history of a site is made.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from server.coordinator.config import CoordinatorConfig
from server.coordinator.operations.history import FOR_GOOD

STAYS = frozenset(
    {"study.json", "submission.json", "configuration.json", "events.jsonl", "summary.json"}
)


@dataclass(frozen=True)
class Pruned:
    """A study, and the bytes of it that went."""

    study: str
    bytes: int


def prune(config: CoordinatorConfig, older_than: timedelta) -> list[Pruned]:
    """Prunes the studies that ended for good before then. What cannot be read is left alone.

    Raises OSError where a file cannot be removed."""
    before, pruned = datetime.now(UTC) - older_than, []
    for folder in sorted((config.state / "studies").glob("*")):
        ended = _ended(folder)
        if ended is None or ended >= before or folder.name.startswith("."):
            continue
        goes, gone = [path for path in folder.iterdir() if path.name not in STAYS], 0
        for path in goes:
            gone += sum(p.lstat().st_size for p in [path, *path.rglob("*")] if not p.is_dir())
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        if goes:
            pruned.append(Pruned(folder.name, gone))
    return pruned


def _ended(folder: Path) -> datetime | None:
    """When a study ended for good; None where it may go on, or where nobody can tell."""
    try:
        last = json.loads((folder / "events.jsonl").read_bytes().splitlines()[-1])
        ended = datetime.fromisoformat(last["time"]) if last["type"] in FOR_GOOD else None
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return None
    return ended
