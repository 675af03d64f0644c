"""Public files as they were published: found under a data root, whole, or named with a remedy."""

from __future__ import annotations

from pathlib import Path

from protocol.document import digest
from protocol.errors import Code, WardroundError
from tasks.base import Download


def published(root: Path | None, download: Download, task: str) -> bytes:
    """The bytes of `root`/folder/file, whose checksum must hold.

    Raises WardroundError: NO_DATA where it is not there, MALFORMED_DATA where it differs.
    """
    remedy = f"Fetch it: wardround data fetch {task}."
    folder = download.folder or task
    if root is None:
        raise WardroundError(
            Code.NO_DATA,
            f"The data of {folder} is not on this machine.",
            remedy=f"{remedy} Or set WARDROUND_DATA to the folder that has it.",
        )
    path = root / folder / download.file
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WardroundError(
            Code.NO_DATA, f"{path} cannot be read: {error.strerror}.", remedy=remedy
        ) from None
    if digest(data) != download.sha256:
        raise WardroundError(
            Code.MALFORMED_DATA,
            f"{path} is not the published file (its SHA-256 differs).",
            remedy=remedy,
        )
    return data
