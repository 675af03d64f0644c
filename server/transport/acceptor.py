"""Accepts connections within the limits and, for those within, shakes hands in TLS.

What is beyond the limits is closed at once, so a flood costs neither files nor handshakes. Where
the system has no file or memory left for another connection, accepting pauses and goes on.
"""

from __future__ import annotations

import asyncio
import socket

import uvicorn

from protocol.connections import ACCEPT_PAUSE, Connection, Connections
from protocol.housekeeping import reason
from server.transport.event_log import EventLog
from server.transport.http import HANDSHAKE_SECONDS, BoundedProtocol

_UNSENT = 16 * 1024
"""Bytes that the system holds back for a connection: what counts as sent is on the line."""


class Acceptor:
    """Feeds a uvicorn server that listens to no socket itself. Belongs to that server's loop."""

    def __init__(
        self,
        listening: socket.socket,
        server: uvicorn.Server,
        connections: Connections,
        events: EventLog,
    ) -> None:
        """listening: not blocking."""
        self._listening, self._server = listening, server
        self._connections, self._events = connections, events
        self._handshakes: set[asyncio.Task[None]] = set()
        self._accepting: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._accepting = asyncio.get_running_loop().create_task(self._accept())

    def stop(self) -> None:
        """Accepts no further connection and frees the port."""
        if self._accepting is not None:
            self._accepting.cancel()
        self._listening.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                raw, address = await loop.sock_accept(self._listening)
            except Exception as error:
                self._events.refused("connection", reason(error), "")
                await asyncio.sleep(ACCEPT_PAUSE)
                continue
            place = self._connections.admit(address[0])
            if place is None:
                raw.close()
                self._events.refused("connection", "too-many", address[0])
            else:
                handshake = loop.create_task(self._shake_hands(raw, place))
                self._handshakes.add(handshake)
                handshake.add_done_callback(self._handshakes.discard)
            await asyncio.sleep(0)  # what waits to be accepted holds up nothing else

    async def _shake_hands(self, raw: socket.socket, place: Connection) -> None:
        config = self._server.config
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: BoundedProtocol(config, self._server.server_state, {}, place=place),
                raw,
                ssl=config.ssl,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
            )
        except Exception:  # no TLS, none in time, or gone
            raw.close()
            place.leave()
