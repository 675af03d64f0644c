"""Lists the files to read in folders and DICOMDIRs. Follows no link to a folder, opens no device.

Names that begin with a dot are left out: half-written files, and what an operating system hides.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from client.data.dicom.objects.header import BoundedFile, Problem, open_dataset
from protocol.errors import Code, WardroundError

DICOMDIR = "DICOMDIR"
_RECORDS, _FILE_ID = 0x00041220, 0x00041500


@dataclass(frozen=True)
class ScannedFile:
    """One file, or one that a DICOMDIR names and that is not there (`problem`)."""

    path: Path
    size: int
    mtime_ns: int
    problem: Problem | None = None


def walk(root: Path) -> Iterator[ScannedFile]:
    """The regular files at or below `root`, in order of name; where `root` is a DICOMDIR, or a
    folder with one at its top, also what that names and is not there.

    Raises WardroundError(NO_DATA) where `root` cannot be read.
    """
    try:
        status = root.stat()
    except OSError as error:
        raise WardroundError(
            Code.NO_DATA,
            f"{root} cannot be read: {error.strerror}.",
            remedy="Correct imaging.folders in site.yaml, or the argument.",
        ) from None
    if stat.S_ISREG(status.st_mode):
        yield ScannedFile(root, status.st_size, status.st_mtime_ns)
        if root.name.upper() == DICOMDIR:
            yield from map(_named, named_by(root))
        return
    yield from _below(root)
    directory = root / DICOMDIR
    if directory.is_file():
        named = map(_named, named_by(directory))
        yield from (file for file in named if file.problem is not None)


def named_by(directory: Path) -> list[Path]:
    """The files that a DICOMDIR names (PS3.3, F.3.2.2), all below its own folder; none where it
    is damaged."""
    folder, paths = directory.parent, []
    try:
        with BoundedFile(directory) as file:
            dataset, _ = open_dataset(file, file.size, [_RECORDS])
        for record in dataset.get(_RECORDS, ()).value:
            value = record.get(_FILE_ID)
            if value is None or not value.value:
                continue
            parts = [value.value] if isinstance(value.value, str) else list(value.value)
            if all(_component(part) for part in parts):
                paths.append(folder.joinpath(*map(str, parts)))
    except Exception:
        return []
    return paths


def _component(part: object) -> bool:
    """A name and no way out of the folder."""
    text = str(part)
    return text not in ("", ".", "..") and not {"/", "\\", "\0"} & set(text)


def _named(path: Path) -> ScannedFile:
    with suppress(OSError):
        status = path.lstat()
        if stat.S_ISREG(status.st_mode):
            return ScannedFile(path, status.st_size, status.st_mtime_ns)
    return ScannedFile(path, 0, 0, Problem.NOT_THERE)


def _below(folder: Path) -> Iterator[ScannedFile]:
    try:
        with os.scandir(folder) as entries:
            listed = sorted((e for e in entries if e.name[0] != "."), key=lambda e: e.name)
    except OSError:
        yield ScannedFile(folder, 0, 0, Problem.DENIED)
        return
    for entry in listed:
        try:
            if entry.is_dir(follow_symlinks=False):
                yield from _below(Path(entry.path))
            elif entry.is_file():
                status = entry.stat()
                yield ScannedFile(Path(entry.path), status.st_size, status.st_mtime_ns)
        except OSError:
            yield ScannedFile(Path(entry.path), 0, 0, Problem.DENIED)
