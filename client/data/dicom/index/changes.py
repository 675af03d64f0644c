"""Whether the index of images has changed: asked often, it costs next to nothing."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from client.data.dicom.index.index import FILE, ImageIndex


class IndexChanges:
    """Holds the index in a state folder open; for one thread. Its methods raise
    WardroundError(STATE) where the index cannot be read."""

    def __init__(self, state: Path) -> None:
        self._path = state / FILE
        self._file: tuple[int, int] | None = None
        self._index: ImageIndex | None = None
        self._version: tuple[int, int] | None = None

    def __enter__(self) -> IndexChanges:
        return self

    def __exit__(self, *_: object) -> None:
        if self._index is not None:
            self._index.close()
            self._index = None

    def seen(self) -> bool:
        """Whether anything was written since the last call, by whomever; True the first time.

        What a caller reads after this call has all that it told of."""
        if self._index is None or self._file != _identity(self._path):  # removed, or made anew
            self.__exit__()
            self._index = ImageIndex.open(self._path.parent)
            self._file, self._version = _identity(self._path), None
        before, self._version = self._version, self._index.version()
        return self._version != before


def _identity(path: Path) -> tuple[int, int] | None:
    with suppress(OSError):
        status = path.stat()
        return status.st_dev, status.st_ino
    return None
