"""Public data sets on a user's machine: where they lie, and how they get there.

Downloads are checked against the SHA-256 that the task states and appear under their name only
when whole, so that an interrupted download is never mistaken for data.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import tempfile
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from protocol import durable_files
from protocol.errors import Code, WardroundError
from tasks import registry

if TYPE_CHECKING:
    from tasks.base import Download

_CHUNK = 1 << 16
_TIMEOUT = 30.0
"""Seconds without a byte before a server counts as gone."""


def data_root() -> Path:
    """WARDROUND_DATA, or the user's data folder (XDG Base Directory, XDG_DATA_HOME)."""
    if chosen := os.environ.get("WARDROUND_DATA"):
        return Path(chosen).expanduser()
    home = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(home).expanduser() / "wardround"


def fetch(name: str, root: Path | None = None, console: Console | None = None) -> list[Path]:
    """Brings a task's public files to `root`/<task>; what is there and whole is left alone.

    Returns the files. Raises WardroundError: UNKNOWN_TASK, USAGE for a task without downloads,
    UNREACHABLE with the address, MALFORMED_DATA for a wrong checksum, NO_DATA for a folder that
    cannot be written.
    """
    task = registry.load(name)
    if not task.downloads:
        raise WardroundError(
            Code.USAGE,
            f"Task {name} has nothing to download.",
            remedy="Its data comes with wardround, or is each hospital's own.",
        )
    base = root or data_root()
    files = [base / (download.folder or name) / download.file for download in task.downloads]
    missing = [
        (download, path)
        for download, path in zip(task.downloads, files, strict=True)
        if not _whole(path, download.sha256)
    ]
    for folder in {path.parent for _, path in missing}:
        _prepare(folder)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        for path in files:
            if path not in {path for _, path in missing}:
                size = path.stat().st_size
                progress.add_task(f"{path.name} (there)", total=size, completed=size)
        for download, path in missing:
            line = progress.add_task(download.file, total=None)
            _download(download, path, progress, line)
    return files


def _prepare(folder: Path) -> None:
    """Raises WardroundError(NO_DATA) where nothing can be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise WardroundError(
            Code.NO_DATA,
            f"{folder} cannot be written: {error.strerror}.",
            remedy="Set WARDROUND_DATA to a folder of your own.",
        ) from None


def _unpack(archive: Path, download: Download) -> None:
    """Puts the file named `member`, in whatever folder of the zip archive, in the archive's place.

    Raises WardroundError(MALFORMED_DATA) where the archive is none or lacks it.
    """
    unpacked = archive.with_suffix(".unpacked")
    try:
        with zipfile.ZipFile(archive) as opened:
            inside = next(n for n in opened.namelist() if Path(n).name == download.member)
            with opened.open(inside) as source, unpacked.open("wb") as file:
                shutil.copyfileobj(source, file)
        unpacked.replace(archive)
    except (zipfile.BadZipFile, StopIteration):
        raise WardroundError(
            Code.MALFORMED_DATA,
            f"What {download.url} sent is no archive with {download.member}.",
            remedy="Try again; if it stays so, the source changed or a proxy interferes.",
        ) from None
    finally:
        unpacked.unlink(missing_ok=True)


def _whole(path: Path, sha256: str) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except OSError:
        return False


def _download(download: Download, path: Path, progress: Progress, line: TaskID) -> None:
    partial = path.with_name(f".{path.name}.partial")
    if urlsplit(download.url).scheme not in ("http", "https"):
        raise WardroundError(Code.UNREACHABLE, f"{download.url} is not a web address.")
    try:
        with (
            urllib.request.urlopen(download.url, timeout=_TIMEOUT) as answer,  # noqa: S310 (its scheme was checked)
            partial.open("wb") as file,
        ):
            length = answer.headers.get("Content-Length")
            progress.update(line, total=int(length) if length else None)
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                progress.advance(line, len(chunk))
        if download.member:
            _unpack(partial, download)
        if not _whole(partial, download.sha256):
            raise WardroundError(
                Code.MALFORMED_DATA,
                f"What {download.url} sent is not the published {download.file} "
                "(its SHA-256 differs).",
                remedy="Try again; if it stays so, the source changed or a proxy interferes.",
            )
        durable_files.move(partial, path)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise WardroundError(
            Code.UNREACHABLE,
            f"{download.url} could not be downloaded: {reason}.",
            remedy=f"Check the connection, or put the file at {path} yourself.",
        ) from None
    finally:
        partial.unlink(missing_ok=True)
