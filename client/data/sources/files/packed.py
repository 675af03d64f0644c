"""Packed files: .gz and .zst, which hold one file's bytes, and .zip, which holds one file."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path
from typing import IO

from protocol.errors import Code, WardroundError

STREAMS = (".gz", ".zst")
SUFFIXES = (*STREAMS, ".zip")


def name_within(path: Path) -> str:
    """The name of what is packed; the file's own where nothing is.

    Raises WardroundError(MALFORMED_DATA) for a .zip that holds not just one file, or an encrypted
    one."""
    if path.suffix.lower() == ".zip":
        with _zip(path) as archive:
            return _member(archive, path).filename
    return path.stem if path.suffix.lower() in STREAMS else path.name


def open_bytes(path: Path) -> IO[bytes]:
    """The content, unpacked in a stream.

    Raises WardroundError as `name_within`, and OSError, EOFError or zlib.error, then or while it is
    read, for what is broken."""
    match path.suffix.lower():
        case ".gz":
            return gzip.open(path)  # type: ignore[return-value]  # a GzipFile reads like one
        case ".zst":
            import pyarrow as pa  # slow to import, and seldom wanted

            return pa.input_stream(str(path), compression="zstd")  # type: ignore[no-any-return]  # no stubs
        case ".zip":
            archive = _zip(path)  # the member keeps it open
            return archive.open(_member(archive, path))
    return path.open("rb")


def _zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile:
        raise WardroundError(
            Code.MALFORMED_DATA, f"{path} is not a .zip, or a damaged one.", remedy="Pack it again."
        ) from None


def _member(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    members = [member for member in archive.infolist() if not member.is_dir()]
    if len(members) != 1:
        raise WardroundError(
            Code.MALFORMED_DATA,
            f"{path} holds {len(members)} files.",
            remedy="Pack each file by itself, or unpack it.",
        )
    if members[0].flag_bits & 1:
        raise WardroundError(
            Code.MALFORMED_DATA, f"{path} is encrypted.", remedy="Unpack it on this machine."
        )
    return members[0]
