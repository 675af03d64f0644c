"""A coordinator's backup: its whole folder but what only a running process means."""

from __future__ import annotations

from pathlib import Path

from protocol import backup_archive
from server.coordinator.config import CoordinatorConfig

_LEFT_OUT = frozenset({"status.json", "coordinator.lock"})


def backup(config: CoordinatorConfig, target: Path) -> None:
    """Writes a backup while the coordinator runs or not.

    Files are replaced whole or appended to, and a study's events are read before its checkpoint
    (in the order of their names, "events" would come after), so that the events that a restored
    study has are never ahead of its model. Raises WardroundError(USAGE).
    """
    folder = config.folder
    files: dict[str, Path | bytes] = {}
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        own = not path.name.startswith("backup.schema") and path.name not in _LEFT_OUT
        if path.is_file() and not path.is_symlink() and own and not hidden:
            files[path.relative_to(folder).as_posix()] = path
    backup_archive.write(target, "coordinator", config.address, files)
