"""Secret files and folders, which only their owner may read: keys, tokens, random secrets."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from protocol.durable_files import write
from protocol.errors import Code, WardroundError

SECRET_BYTES = 32
_LONGEST = 1 << 16
_ASK = "ask who could have read it"


def create_secret(path: Path) -> None:
    """Writes SECRET_BYTES random bytes, durably and for their owner alone, unless the file exists.

    Raises OSError.
    """
    if not path.exists():
        with suppress(FileExistsError):  # another process was quicker
            write(path, os.urandom(SECRET_BYTES), replace=False)


def make_database(path: Path) -> None:
    """An empty file for SQLite, its owner's alone, where there is none.

    One that is there is not opened: closing it would take away the locks that other connections of
    this process have on it (sqlite.org/howtocorrupt.html, 2.2), and another process that closes
    last would delete the log that they read. Raises OSError.
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def read_secret(
    path: Path, what: str, code: Code, *, remedy: str, exposed: str = _ASK, size: int | None = None
) -> bytes:
    """The bytes of a secret file, 64 KiB at most.

    what: its name in errors, such as "node key". remedy: how to obtain a new one. exposed: what to
    do, after `chmod`, where others could read it. size: bytes that it must have. Raises
    WardroundError(code) where it is missing, not a regular file, open to other users, another
    user's, or of another size.
    """
    try:
        # O_NONBLOCK: a pipe in its place is refused instead of waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            regular = stat.S_ISREG(status.st_mode)
            content = os.read(descriptor, _LONGEST) if regular else b""
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _unreadable(path, what, code, error, remedy) from None
    if not regular:
        raise WardroundError(code, f"The {what} {path} is not a file.", remedy=remedy)
    _refuse(path, status, what, code, exposed)
    if size is not None and len(content) != size:
        raise WardroundError(code, f"The {what} {path} is damaged.", remedy=remedy)
    return content


def refuse_shared(path: Path, what: str, code: Code = Code.STATE) -> None:
    """Raises WardroundError(code) where a file or folder is missing, belongs to another user, or is
    open to others than its owner."""
    try:
        status = path.stat()
    except OSError as error:
        raise _unreadable(path, what, code, error, _MISSING) from None
    _refuse(path, status, what, code, _ASK)


def _refuse(path: Path, status: os.stat_result, what: str, code: Code, exposed: str) -> None:
    if stat.S_IMODE(status.st_mode) & 0o077:
        mode = "700" if stat.S_ISDIR(status.st_mode) else "600"
        raise WardroundError(
            code,
            f"The {what} {path} is open to other users.",
            remedy=f"Run `chmod {mode} {path}`, and {exposed}.",
        )
    if status.st_uid != os.geteuid():
        raise WardroundError(
            code,
            f"The {what} {path} belongs to another user.",
            remedy=f"Run as its owner, or `chown` it to uid {os.geteuid()}.",
        )


def _unreadable(path: Path, what: str, code: Code, error: OSError, remedy: str) -> WardroundError:
    return WardroundError(
        code, f"The {what} {path} cannot be read: {error.strerror}.", remedy=remedy
    )


_MISSING = "Check the path in site.yaml; `wardround-site init` makes what is missing."
