"""A disk that takes nothing more, for files of certain names, as this process sees it."""

from __future__ import annotations

import errno
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

FAULTS = (errno.ENOSPC, errno.EROFS, errno.EIO)
"""No space left, a read-only file system, a broken disk."""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_PARTIAL = re.compile(r"^\.(.*)\.[0-9a-f]{16}\.partial$")
_watched: list[FailingDisk] = []


class FailingDisk:
    """What is opened for writing below `folder`. Where the path below it, as `name_of` has it, is
    `failing` (a pattern), that fails. An audit hook (PEP 578), so nothing passes it by."""

    def __init__(self, folder: Path, failing: str = "", fault: int = errno.ENOSPC) -> None:
        self.folder, self.failing, self.fault = folder, failing, fault
        self.written: set[str] = set()
        self.failures = 0
        self.failed = threading.Event()
        """It has failed at least twice: whoever wrote has tried again, or another time."""

    def seen(self, path: str) -> None:
        """Raises OSError where writing fails."""
        if not path.startswith(f"{self.folder}/"):
            return
        name = name_of(Path(path).relative_to(self.folder))
        self.written.add(name)
        if self.failing and fnmatch(name, self.failing):
            self.failures += 1
            if self.failures > 1:
                self.failed.set()
            raise OSError(self.fault, os.strerror(self.fault))


def name_of(path: Path) -> str:
    """A path without what differs from run to run: digests, random names, numbers."""
    parts = [_PARTIAL.sub(r"\1", part) for part in path.parts]
    return "/".join(re.sub(r"[0-9a-f]{12,}|\d+", "N", part) for part in parts)


@contextmanager
def disk(folder: Path, failing: str = "", fault: int = errno.ENOSPC) -> Iterator[FailingDisk]:
    watched = FailingDisk(folder, failing, fault)
    _watched.append(watched)
    try:
        yield watched
    finally:
        _watched.remove(watched)


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watched:
        return
    if event == "open":
        path, _, flags = arguments
        if isinstance(path, str | os.PathLike) and isinstance(flags, int) and flags & _WRITING:
            for watched in _watched:
                watched.seen(os.fspath(path))
    elif event == "os.mkdir":
        for watched in _watched:
            watched.seen(os.fspath(arguments[0]))


sys.addaudithook(_hook)  # it stays for the life of the process, and does nothing without a disk
