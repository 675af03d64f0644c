"""A network line of which the way from a site to its coordinator is slow."""

from __future__ import annotations

import asyncio
import itertools
import threading
from contextlib import closing, suppress
from types import TracebackType
from typing import Self

from tests.waiting import HUNG

_PIECE = 16384


class SlowLine:
    """Passes connections on to a port of this machine; what sites send goes at `rate` bytes a
    second in all, shared evenly by their connections. Use as a context manager."""

    def __init__(self, target: int, rate: float) -> None:
        self._target, self.rate = target, rate
        """rate: may be changed at any time."""
        self.port = 0
        """Where sites connect."""
        self.sent = 0
        """Bytes that sites have got through."""
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)
        self._numbers = itertools.count()
        self._writers: set[asyncio.StreamWriter] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(HUNG):
            raise TimeoutError("the line did not get ready")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cuts every connection. May be called twice."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._ending.set)
            self._thread.join(HUNG)

    def cut(self) -> None:
        """Breaks every connection that there is; new ones can be made."""
        self._loop.call_soon_threadsafe(self._break)

    def _break(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _main(self) -> None:
        self._loop, self._ending = asyncio.get_running_loop(), asyncio.Event()
        # Of the pieces that wait, the one goes first whose connection has sent least.
        self._queue: asyncio.PriorityQueue[tuple[int, int, int, asyncio.Event]]
        self._queue = asyncio.PriorityQueue()
        pacing = asyncio.create_task(self._pace())
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._ending.wait()
        server.close()
        pacing.cancel()
        self._break()  # what waits for its turn is cancelled by `asyncio.run`

    async def _pace(self) -> None:
        while True:
            _, _, size, passed = await self._queue.get()
            await asyncio.sleep(size / self.rate)
            self.sent += size
            passed.set()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with suppress(OSError, asyncio.CancelledError):  # nobody listens there, or we are closed
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers.add(inner_writer)
            await asyncio.gather(
                self._pump(reader, inner_writer, slow=True),
                self._pump(inner_reader, writer, slow=False),
            )

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, slow: bool
    ) -> None:
        sent = 0
        with suppress(OSError), closing(writer):  # where one of the two has hung up
            while piece := await reader.read(_PIECE):
                if slow:
                    passed = asyncio.Event()
                    self._queue.put_nowait((sent, next(self._numbers), len(piece), passed))
                    await passed.wait()
                    sent += len(piece)
                writer.write(piece)
                await writer.drain()
