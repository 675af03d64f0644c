"""A coordinator's backup: its whole folder but what only a running process means."""

from __future__ import annotations

from pathlib import Path

from protocol.operations import backup_archive
from server.coordinator.config import CoordinatorConfig
from server.coordinator.study_run import ATTEMPTS
from server.model import attempt_record

_LEFT_OUT = frozenset({"status.json"})
_CHECKPOINT = "checkpoint.pt"


def backup(config: CoordinatorConfig, target: Path) -> None:
    """Writes a backup while the coordinator runs or not.

    Files are replaced whole or appended to. Checkpoints are read last: a study in the backup is
    never behind the rounds that its events tell of. Raises WardroundError(USAGE).
    """
    folder = config.folder

    def kept(path: Path) -> bool:
        parts = path.relative_to(folder).parts
        hidden = any(part.startswith((".", "backup.schema")) for part in parts)
        return (
            path.is_file() and not path.is_symlink() and not hidden and path.name not in _LEFT_OUT
        )

    found = sorted(filter(kept, folder.rglob("*")), key=lambda path: path.name == _CHECKPOINT)
    files = {path.relative_to(folder).as_posix(): path for path in found}
    backup_archive.write(target, "coordinator", config.address, files)


def restore(source: Path, folder: Path) -> CoordinatorConfig:
    """Makes the coordinator of a backup again in a new folder, here or on another machine.

    Its studies go on above the highest attempt that a site has answered since the backup. Raises
    WardroundError: as `backup_archive.restore`, RELEASE for one of a newer release.
    """
    backup_archive.restore(source, "coordinator", folder)
    config = CoordinatorConfig.load(folder)
    for study in sorted((config.state / "studies").glob("[!.]*")):
        attempt_record.put_back(study / ATTEMPTS)
    return config
