"""Back-pressure: how many large replies may be on their way in, or waiting to be folded, at once.

A site asks for a slot when it announces its reply and sends the first byte only when it has one;
the slot is free again when the reply has been folded, or its exchange has ended otherwise. A reply
that is still coming in after `patience` seconds is on a slow line: it goes on beside the slots, so
that it holds no other site up, if there is room for it. So the coordinator's memory is bounded by
`slots` bodies and `room` bytes, of which one site has half at most, whatever the number of sites.
"""

from __future__ import annotations

import asyncio
from collections import deque

from server.transport.link_state import Exchange


class UploadSlots:
    """First come, first served. Lives on the event loop: call it from there only."""

    def __init__(self, slots: int, room: int, patience: float) -> None:
        self._slots, self._room, self._patience = slots, room, patience
        self._holders: set[Exchange] = set()
        self._late: set[Exchange] = set()
        """Holders whose patience is over."""
        self._beside: set[Exchange] = set()
        self._queue: deque[tuple[Exchange, asyncio.Future[bool]]] = deque()

    def admitted(self, node_id: int) -> list[Exchange]:
        """For what the node may send large objects now."""
        everything = (*self._holders, *self._beside)
        return [exchange for exchange in everything if exchange.node_id == node_id]

    async def acquire(self, exchange: Exchange) -> bool:
        """Waits for a slot. False when the exchange ended meanwhile. Cancel it to give up."""
        if exchange in self._holders or exchange in self._beside:
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
        for place in (self._holders, self._late, self._beside):
            place.discard(exchange)
        for entry in [entry for entry in self._queue if entry[0] is exchange]:
            self._queue.remove(entry)
            if not entry[1].done():
                entry[1].set_result(False)
        self._grant()

    def _grant(self) -> None:
        for exchange in [exchange for exchange in self._late if self._fits(exchange)]:
            self._late.discard(exchange)
            self._holders.discard(exchange)
            self._beside.add(exchange)
        while self._queue and len(self._holders) < self._slots:
            exchange, turn = self._queue.popleft()
            if turn.done():
                continue
            if exchange.settled:
                turn.set_result(False)
                continue
            self._holders.add(exchange)
            asyncio.get_running_loop().call_later(self._patience, self._is_late, exchange)
            turn.set_result(True)

    def _is_late(self, exchange: Exchange) -> None:
        if exchange in self._holders:
            self._late.add(exchange)
            self._grant()

    def _fits(self, exchange: Exchange) -> bool:
        """Whether a late reply may go on beside the slots. One that is whole is soon folded."""
        if exchange.settled:
            return False
        everyone = sum(other.largest for other in self._beside) + exchange.largest
        own = [other for other in self._beside if other.node_id == exchange.node_id]
        its = sum(other.largest for other in own) + exchange.largest
        return everyone <= self._room and its <= self._room // 2
