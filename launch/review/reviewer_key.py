"""A reviewer's own key: made at the reviewer's machine, and never anywhere else."""

from __future__ import annotations

from pathlib import Path

from launch.federations.login import kept_credentials
from protocol import durable_files
from protocol.errors import unwritable
from protocol.identity import Identity

_REMEDY = (
    "`wardround review key` makes one; its public half then goes to the coordinator's operator."
)


def kept_key() -> Path:
    """The file beside the kept credentials (0600)."""
    return kept_credentials().with_name("reviewer.key")


def reviewer_key(path: Path, *, make: bool = False) -> Identity:
    """The key in a file. make: makes it where there is none.

    Raises WardroundError: IDENTITY where it is missing, unreadable or open to others, USAGE where
    its folder cannot be made.
    """
    if make and not path.exists():
        try:
            durable_files.make_folder(path.parent)
        except OSError as error:
            raise unwritable(path, error) from None
        Identity.generate().save(path)
    return Identity.load(path, what="reviewer's key", remedy=_REMEDY)
