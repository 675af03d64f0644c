"""A `socketserver` that holds no more connections than it may (protocol/connections.py)."""

from __future__ import annotations

import socketserver
import time
from typing import Any

from protocol.connections import (
    ACCEPT_PAUSE,
    Connection,
    Connections,
    Limits,
    raise_open_files,
)


class BoundedServer(socketserver.TCPServer):
    """Mix it in before the server. What takes a connection over from `finish_request` takes its
    place out of `places`, and leaves it when the connection is closed."""

    def __init__(self, *arguments: Any, connections: int = 32, **more: Any) -> None:
        open_files = raise_open_files()
        limits = Limits.fitting(connections, open_files)
        self.connections = Connections(limits)
        self.log_limits(open_files, limits)
        self.places: dict[Any, Connection] = {}
        self.refused = 0
        super().__init__(*arguments, **more)

    def log_limits(self, open_files: int, limits: Limits) -> None:
        """Told once of the files that this process may open and of the limits that follow."""

    def get_request(self) -> tuple[Any, Any]:
        try:
            return super().get_request()
        except OSError:
            time.sleep(ACCEPT_PAUSE)  # no file is left: what waits would be tried again at once
            raise

    def verify_request(self, request: Any, client_address: Any) -> bool:
        place = self.connections.admit(str(client_address[0]))
        if place is None:
            self.refused += 1
        else:
            self.places[request] = place
        return place is not None

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        if (place := self.places.pop(request, None)) is not None:
            place.leave()
