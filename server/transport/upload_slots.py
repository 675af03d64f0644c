"""Back-pressure: how many large replies may be on their way in, or waiting to be folded, at once.

A site asks for a slot when it announces its reply and sends the first byte only when it has one;
the slot is free again when the reply has been folded, or its exchange has ended otherwise. So the
coordinator's memory is bounded by `slots` bodies, whatever the number of sites.
"""

from __future__ import annotations

import asyncio
from collections import deque

from server.transport.link_state import Exchange


class UploadSlots:
    """First come, first served. Lives on the event loop: call it from there only."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._holders: set[Exchange] = set()
        self._queue: deque[tuple[Exchange, asyncio.Future[bool]]] = deque()

    def held_by(self, node_id: int) -> bool:
        """Whether the node may send large objects now."""
        return any(exchange.node_id == node_id for exchange in self._holders)

    async def acquire(self, exchange: Exchange) -> bool:
        """Waits for a slot. False when the exchange ended meanwhile. Cancel it to give up."""
        if exchange in self._holders:
            return True
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        entry = (exchange, turn)
        self._queue.append(entry)
        self._grant()
        try:
            return await turn
        except asyncio.CancelledError:
            if entry in self._queue:
                self._queue.remove(entry)
            elif turn.done() and not turn.cancelled() and turn.result():
                self.release(exchange)
            raise

    def release(self, exchange: Exchange) -> None:
        """Frees what the exchange holds or waits for; harmless when that is nothing."""
        self._holders.discard(exchange)
        for entry in [entry for entry in self._queue if entry[0] is exchange]:
            self._queue.remove(entry)
            if not entry[1].done():
                entry[1].set_result(False)
        self._grant()

    def _grant(self) -> None:
        while self._queue and len(self._holders) < self._slots:
            exchange, turn = self._queue.popleft()
            if turn.done():
                continue
            if exchange.settled:
                turn.set_result(False)
                continue
            self._holders.add(exchange)
            turn.set_result(True)
