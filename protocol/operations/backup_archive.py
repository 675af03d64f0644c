"""A backup: one compressed archive (tar, gzip) of the files of a site or a coordinator.

Its last member, manifest.json, says whose backup it is, of which release, and the SHA-256 of every
other member. What does not agree with it is not restored.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from pydantic import ValidationError

from protocol import durable_files
from protocol.document import Document, canonical
from protocol.errors import Code, WardroundError
from protocol.release import RELEASE

_MANIFEST = "manifest.json"
Kind = Literal["site", "coordinator"]


class _Manifest(Document):
    kind: Kind
    name: str
    release: str
    files: dict[str, str]


class _Hashing(io.RawIOBase):
    """Exactly `size` bytes of a stream (a file that grows meanwhile is cut there), hashed."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self._stream, self._left, self.hash = stream, size, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        self.hash.update(data)
        return data


def write(target: Path, kind: Kind, name: str, files: Mapping[str, Path]) -> None:
    """Writes a backup (0600), whole or not at all; `files`: path in it -> file, read in
    this order; one that is gone by now is left out.

    It holds private keys. Raises WardroundError(USAGE) where `target` exists or cannot be written.
    """
    hashes = {}
    try:
        with (
            durable_files.writing(target, replace=False) as raw,
            tarfile.open(fileobj=raw, mode="w:gz") as archive,
        ):
            for path, content in sorted(files.items()):
                try:
                    opened = (
                        io.BytesIO(content) if isinstance(content, bytes) else content.open("rb")
                    )
                except FileNotFoundError:
                    continue
                with opened as stream:
                    size = stream.seek(0, os.SEEK_END)
                    stream.seek(0)
                    hashes[path] = _add(archive, path, stream, size)
            manifest = _Manifest(kind=kind, name=name, release=RELEASE, files=hashes)
            plain = canonical(manifest.model_dump())
            _add(archive, _MANIFEST, io.BytesIO(plain), len(plain))
    except FileExistsError:
        raise WardroundError(
            Code.USAGE,
            f"{target} exists already.",
            remedy="Name a new file: a backup never overwrites another.",
        ) from None
    except OSError as error:
        raise WardroundError(
            Code.USAGE,
            f"{target} cannot be written: {error.strerror}.",
            remedy="Check the folder, its permissions and the free space.",
        ) from None


def restore(source: Path, kind: Kind, folder: Path) -> str:
    """Unpacks a backup into a new folder (0700), whole or not at all; returns whose it was.

    Raises WardroundError: USAGE for a file that is no such backup or is damaged, STATE where the
    folder is not empty or cannot be made.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise WardroundError(
            Code.STATE,
            f"{folder} exists and is not empty.",
            remedy="Name a new folder, or move the old one away: nothing is ever overwritten.",
        )
    if not source.is_file():
        raise WardroundError(Code.USAGE, f"There is no file {source}.", remedy="Name a backup.")
    try:
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=folder.absolute().parent, prefix=f".{folder.name}-"))
        try:
            manifest = _unpack(source, made)
            if manifest.kind != kind:
                raise WardroundError(
                    Code.USAGE,
                    f"{source} is the backup of a {manifest.kind}, not of a {kind}.",
                    remedy="Name the file that `backup` wrote there.",
                )
            durable_files.move(made, folder)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    except OSError as error:
        raise WardroundError(
            Code.STATE, f"{folder} cannot be made: {error.strerror}.", remedy="Choose another one."
        ) from None
    return manifest.name


def _add(archive: tarfile.TarFile, path: str, stream: IO[bytes], size: int) -> str:
    """Adds a member; its SHA-256."""
    member = tarfile.TarInfo(path)
    member.size, member.mode = size, 0o600
    hashing = _Hashing(stream, size)
    archive.addfile(member, hashing)
    return hashing.hash.hexdigest()


def _unpack(source: Path, folder: Path) -> _Manifest:
    hashes, plain = {}, b""
    try:
        with tarfile.open(source, "r:gz") as archive:
            for member in archive:
                path, stream = PurePosixPath(member.name), archive.extractfile(member)
                if not member.isreg() or stream is None or path.is_absolute() or ".." in path.parts:
                    raise ValueError
                if member.name == _MANIFEST:
                    plain = stream.read()
                    continue
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                with durable_files.writing(target, replace=False) as file:
                    hashing = _Hashing(stream, member.size)
                    shutil.copyfileobj(hashing, file)
                hashes[member.name] = hashing.hash.hexdigest()
        manifest = _Manifest.model_validate_json(plain)
        if manifest.files != hashes:
            raise ValueError
    except (tarfile.TarError, zlib.error, EOFError, ValueError, ValidationError) as error:
        raise _damaged(source) from error
    except OSError as error:
        if error.strerror is None:  # gzip's own errors have no errno
            raise _damaged(source) from None
        raise
    return manifest


def _damaged(source: Path) -> WardroundError:
    return WardroundError(
        Code.USAGE,
        f"{source} is no backup, or it is damaged.",
        remedy="Nothing was restored. Take another backup.",
    )
