"""Limits on header size and time for callers that have not authenticated yet.

uvicorn's parser takes header fields of any length and waits for them for ever; a site's network
is not always so friendly. Bodies are bounded elsewhere: they are read after authentication only.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from protocol.connections import Connection

HEAD_LIMIT = 512 * 1024
"""Bytes of one request received before its header is complete. One read may bring 256 KiB, most
of which is then body."""
HEAD_SECONDS = 20.0
"""Seconds for a connection's first header, or for a header once it has begun."""
HANDSHAKE_SECONDS = 20.0
"""Seconds for a connection's TLS handshake."""


class BoundedProtocol(HttpToolsProtocol):
    """Hangs up on a caller whose request header is too long or too slow."""

    _head_bytes = 0
    _in_head = True
    _patience: asyncio.TimerHandle | None = None

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        *,
        place: Connection,
    ) -> None:
        super().__init__(config, server_state, app_state)
        self._place = place

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # over TCP it is a Transport
        super().connection_made(transport)
        self._be_patient()

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_LIMIT:
                self.transport.abort()
                return
            if self._patience is None:
                self._be_patient()
        super().data_received(data)

    def on_headers_complete(self) -> None:
        self._in_head, self._head_bytes = False, 0
        self._be_done()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_head, self._head_bytes = True, 0

    def connection_lost(self, exc: Exception | None) -> None:
        self._be_done()
        self._place.leave()
        super().connection_lost(exc)

    def _be_patient(self) -> None:
        transport: Any = self.transport
        self._patience = asyncio.get_running_loop().call_later(HEAD_SECONDS, transport.abort)

    def _be_done(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
