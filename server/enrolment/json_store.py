"""A small JSON file that the command line replaces while a running coordinator reads it."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from protocol import durable_files
from protocol.document import first_fault
from protocol.errors import Code, WardroundError
from protocol.release import unknown_field

D = TypeVar("D", bound=BaseModel)


class JsonFile(Generic[D]):
    """Reads the file again when it has changed (it is only ever replaced, never written into)."""

    def __init__(self, path: Path, kind: type[D]) -> None:
        self.path, self.kind = path, kind
        self._read: tuple[tuple[int, int, int], D] | None = None

    def value(self) -> D:
        """What the file says; the kind's defaults where there is none. For any thread.

        Raises WardroundError: CONFIGURATION where it is not what it should be, RELEASE where a
        newer release wrote it.
        """
        read = self._read
        try:
            status = self.path.stat()
            identity = (status.st_ino, status.st_mtime_ns, status.st_size)
            if read is None or identity != read[0]:
                read = self._read = (
                    identity,
                    self.kind.model_validate_json(self.path.read_bytes()),
                )
        except FileNotFoundError:
            return self.kind()
        except ValidationError as error:
            field, _, is_unknown = first_fault(error)
            if is_unknown:
                raise unknown_field(field, str(self.path)) from None
            raise _damaged(self.path, f"{field or 'the file'} is wrong") from None
        except OSError as error:
            raise _damaged(self.path, type(error).__name__) from None
        return read[1]


@contextmanager
def changed(file: JsonFile[D]) -> Iterator[tuple[D, Callable[[D], None]]]:
    """The file's value and what replaces it; one writer at a time."""
    lock = os.open(file.path.with_name(f".{file.path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield file.value(), lambda value: write_json(file.path, value.model_dump(mode="json"))
    finally:
        os.close(lock)


def write_json(path: Path, value: Any) -> None:
    """Readable by its owner only, whole or not at all, synced."""
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n"
    durable_files.write(path, text.encode())


def _damaged(path: Path, why: str) -> WardroundError:
    return WardroundError(
        Code.CONFIGURATION,
        f"{path} cannot be read ({why}).",
        remedy="Change it with `wardround coordinator` only, or restore it.",
    )
