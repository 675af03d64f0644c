"""The store of received objects: written whole and durably, or not at all; named by pseudonyms.

    .incoming/                   what is being written; emptied at every start
    <study>/<image>.dcm          pseudonyms of the two UIDs, so that no name on disk identifies
    <study>/<image>-<hash>.dcm   another object that came later with the same UID, by its SHA-256

An object is acknowledged after fsync of the file, its rename, and fsync of the folder: what was
acknowledged survives a power cut, and what is half-written is never seen under its name. Nothing
that was acknowledged is ever overwritten.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from client.data.dicom.objects.pseudonym import Pseudonyms
from protocol import durable_files
from protocol.errors import Code, WardroundError
from protocol.secret_files import refuse_shared

_INCOMING, _LOCK = ".incoming", ".receiver.lock"
_PIECE = 1 << 20


class DiskFull(Exception):
    """The disk is full, or has no more free space than the site wants to keep."""


@contextmanager
def _disk_full() -> Iterator[None]:
    """Raises DiskFull in place of an OSError that says so."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DiskFull from None
        raise


@dataclass(frozen=True)
class StoredObject:
    """Where an object was stored. `again`: the same bytes were there; `beside`: others were, and
    both are kept."""

    study: Path
    what: Literal["new", "again", "beside"]


class Spool:
    """An object being written: a file in `.incoming` that is moved to its place, or removed."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"{secrets.token_hex(16)}.part"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._file = os.fdopen(os.open(self.path, flags, 0o600), "wb", buffering=0)

    def write(self, data: bytes | memoryview) -> None:
        """Raises DiskFull where the disk is full, OSError otherwise."""
        view = memoryview(data)
        with _disk_full():
            while view:
                view = view[self._file.write(view[:_PIECE]) :]

    def move(self, target: Path, naming: threading.Lock) -> None:
        """To its place, durably: file first, then its name. `naming` is held meanwhile, since a
        rename would replace. Raises FileExistsError where a file is there, OSError."""
        durable_files.sync(self.path)
        with naming:
            if target.exists():
                raise FileExistsError
            os.replace(self.path, target)
        durable_files.sync(target.parent)
        self._file.close()

    def same_as(self, target: Path) -> bool:
        """Whether a file holds the very same bytes."""
        with target.open("rb") as there, self.path.open("rb") as here:
            if os.fstat(there.fileno()).st_size != os.fstat(here.fileno()).st_size:
                return False
            while piece := here.read(_PIECE):
                if piece != there.read(_PIECE):
                    return False
        return True

    def digest(self) -> str:
        """SHA-256 of what was written."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def discard(self) -> None:
        """Removes it; no harm where it has moved or gone already."""
        if not self._file.closed:
            self._file.close()
            self.path.unlink(missing_ok=True)


class ObjectStore:
    """The folder of one receiver."""

    def __init__(self, folder: Path, names: Pseudonyms, floor: int, lock: int) -> None:
        self.folder = folder
        self._names = names
        self._floor = floor
        self._lock = lock
        self._naming = threading.Lock()

    @staticmethod
    def open(folder: Path, names: Pseudonyms, floor: int) -> ObjectStore:
        """Makes or takes the folder (0700) and removes what an earlier run left half-written.

        floor: bytes of free space to be left. Raises WardroundError(STATE) where another receiver
        works on it, or it cannot be written.
        """
        try:
            durable_files.make_folder(folder)
            refuse_shared(folder, "receiver's folder")
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                raise WardroundError(
                    Code.STATE,
                    f"Another receiver already works on {folder}.",
                    remedy="Stop it first, or name another imaging.receiver.store.",
                ) from None
            (folder / _INCOMING).mkdir(exist_ok=True, mode=0o700)
            for stale in (folder / _INCOMING).iterdir():
                stale.unlink()
            durable_files.sync(folder)
        except OSError as error:
            raise WardroundError(
                Code.STATE,
                f"{folder} cannot be written: {error.strerror}.",
                remedy="Correct imaging.receiver.store in site.yaml, or the permissions.",
            ) from None
        return ObjectStore(folder, names, floor, lock)

    def close(self) -> None:
        os.close(self._lock)

    def spool(self) -> Spool:
        """Raises DiskFull, OSError."""
        with _disk_full():
            return Spool(self.folder / _INCOMING)

    def check_room(self, size: int) -> None:
        """Raises DiskFull where `size` more bytes would go below the floor."""
        status = os.statvfs(self.folder)
        if status.f_bavail * status.f_frsize - size < self._floor:
            raise DiskFull

    def keep(self, spool: Spool, study_uid: str, instance_uid: str) -> StoredObject:
        """Moves a written object to its place, or beside another one that is there. Raises
        DiskFull, OSError."""
        study, image = self.folder / self._names.of(study_uid), self._names.of(instance_uid)
        first = study / f"{image}.dcm"
        with _disk_full():
            durable_files.make_folder(study)
            try:
                spool.move(first, self._naming)
                return StoredObject(study, "new")
            except FileExistsError:
                if not spool.same_as(first):
                    try:
                        spool.move(study / f"{image}-{spool.digest()}.dcm", self._naming)
                        return StoredObject(study, "beside")
                    except FileExistsError:  # its name says that it is the same
                        pass
        spool.discard()
        return StoredObject(study, "again")
