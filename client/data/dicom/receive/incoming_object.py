"""An object while it arrives: in memory if small, on disk if large, nowhere if too large or not
wanted."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from client.data.dicom.receive.object_store import DiskFull, Spool

DISK_FULL, DISK_FAILS = "the disk is full or at its floor", "the disk fails"
_IN_MEMORY = 4 << 20


class IncomingObject(io.BytesIO):
    """The buffer to which pynetdicom writes the fragments of a data set.

    head: gives what stands before the data set in a file, once the command is known; wanted: says
    then whether the object is kept at all. `failed`: why it is refused. What is refused or not
    wanted is read from the network and thrown away, so that the sender gets an answer.
    """

    def __init__(
        self,
        head: Callable[[], bytes],
        spool: Callable[[], Spool],
        largest: int,
        wanted: Callable[[], bool],
    ) -> None:
        super().__init__()
        self.length = 0
        self.failed: str | None = None
        self._head, self._make_spool, self._largest = head, spool, largest
        self._wanted = wanted
        self._spool: Spool | None = None

    def write(self, data: Any, /) -> int:
        self.length += len(data)
        try:
            if self.failed is None and self._wanted():
                self._take(data)
        except DiskFull:
            self._fail(DISK_FULL)
        except OSError:
            self._fail(DISK_FAILS)
        return len(data)

    def written(self) -> Spool:
        """The whole object in a file. Raises DiskFull, OSError."""
        spool = self._spooled()
        spool.write(self.getbuffer()[: self.tell()])
        return spool

    def start(self, size: int) -> bytes:
        """The first bytes of the data set."""
        if self._spool is None:
            return bytes(self.getbuffer()[:size])
        with self._spool.path.open("rb") as file:
            file.seek(len(self._head()))
            return file.read(size)

    def discard(self) -> None:
        if self._spool is not None:
            self._spool.discard()

    def _take(self, data: Any) -> None:
        if self.length > self._largest:
            self._fail("larger than receiver.largest")
        elif self._spool is None and self.length <= _IN_MEMORY:
            super().write(data)
        else:
            spool = self._spooled()
            with self.getbuffer() as view:
                spool.write(view)
            self._clear()
            spool.write(data)

    def _spooled(self) -> Spool:
        if self._spool is None:
            self._spool = self._make_spool()
            self._spool.write(self._head())
        return self._spool

    def _fail(self, why: str) -> None:
        self.failed = why
        self.discard()
        self._spool = None
        self._clear()

    def _clear(self) -> None:
        self.seek(0)
        self.truncate()
