"""Durable, atomic file writes: a full disk, a crash or a power cut leaves the old or the new file.

A new file is written beside its place under another name, synced and renamed, and then its folder
is synced: rename(2) is atomic, and a power cut may undo whatever fsync(2) has not covered. Where a
step fails, the old file stays and the partial one is removed. A killed process can leave its
partial file, `.NAME.RANDOM.partial`; a later writer of NAME removes it once it is a day old.
"""

from __future__ import annotations

import glob
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from protocol.housekeeping import Housekeeping

PRIVATE, PUBLIC = 0o600, 0o644
"""Modes of new files, less the umask: readable by their owner alone, or by everyone."""
_PARTIAL = ".partial"
_LONGEST_LINE = 1 << 20
_ABANDONED = 24 * 3600.0
"""Seconds without a write after which a partial file counts as abandoned."""


def write(
    path: Path,
    content: bytes | memoryview,
    *,
    mode: int = PRIVATE,
    replace: bool = True,
    durable: bool = True,
) -> None:
    """Writes a file whole or not at all. Arguments and errors are those of `writing`."""
    with writing(path, mode=mode, replace=replace, durable=durable) as file:
        file.write(content)


@contextmanager
def writing(
    path: Path, *, mode: int = PRIVATE, replace: bool = True, durable: bool = True
) -> Iterator[BinaryIO]:
    """A stream to a file that appears under its name once the block ends without an exception.

    replace: False refuses an existing file (FileExistsError). durable: False leaves out the syncs:
    a power cut may then undo the write, but never tear it. Raises OSError.
    """
    _remove_abandoned(path)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}{_PARTIAL}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(descriptor)
        if replace:
            os.replace(partial, path)
        else:
            os.link(partial, path)  # unlike a rename, fails where the name is taken
    finally:
        partial.unlink(missing_ok=True)
    if durable:
        sync(path.parent)


def append(path: Path, content: bytes, *, mode: int = PRIVATE, durable: bool = True) -> None:
    """Adds to the end of a file, which it creates if need be: everything, or nothing on an error.

    One writer at a time. A killed process can leave a part, which the reader must tell from a whole
    line. Raises OSError.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, mode)
    try:
        end = os.fstat(descriptor).st_size
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            if durable:
                os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, end)
            raise
    finally:
        os.close(descriptor)
    if durable and end == 0:
        sync(path.parent)


def cut_torn_line(path: Path) -> None:
    """Removes the end of a file of lines that a killed process, a power cut or a failing disk left
    without a line's end. Raises OSError."""
    with path.open("r+b") as file:
        start = max(0, file.seek(0, os.SEEK_END) - _LONGEST_LINE)
        file.seek(start)
        if (tail := file.read()) and not tail.endswith(b"\n"):
            file.truncate(start + tail.rfind(b"\n") + 1)


def move(source: Path, target: Path) -> None:
    """Renames a finished file or folder within its file system, and makes it durable with all it
    contains. A file replaces an existing file, a folder an empty folder. Raises OSError."""
    for path in (source, *source.rglob("*")):
        sync(path)
    os.replace(source, target)
    sync(target.parent)


def make_folder(folder: Path, *, mode: int = 0o700) -> None:
    """Creates a folder and its missing parents, durably. Raises OSError."""
    if not folder.is_dir():
        make_folder(folder.parent, mode=mode)
        folder.mkdir(mode=mode, exist_ok=True)
        sync(folder.parent)


def sync(path: Path) -> None:
    """Makes a file's bytes, or the names in a folder, durable (fsync). Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_abandoned(path: Path) -> None:
    """Removes the partial files that killed writers of this file left."""
    for partial in path.parent.glob(f".{glob.escape(path.name)}.*{_PARTIAL}"):
        with Housekeeping().task("partial files"):
            if time.time() - partial.stat().st_mtime > _ABANDONED:
                partial.unlink()
