"""pynetdicom's server, hardened against strangers: TLS in a thread of its own, bounds, timeouts.

By itself, pynetdicom does TLS handshakes in the thread that accepts, so that one silent peer blocks
all others; reads a PDU of any length into memory before it knows the sender; and waits for the rest
of one for ever.
"""

from __future__ import annotations

import socket
import ssl
import threading
from typing import Any

from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from client.log_events import event
from protocol.connections import Limits
from protocol.operations.bounded_server import BoundedServer

MAX_PDU = 1 << 20
"""Bytes, as announced to senders; at most twice as many are read."""
_TIMEOUT = 60.0
"""Seconds for a TLS handshake, or without a byte within a PDU."""
_CONNECTIONS = 4
"""Connections for each association that is allowed: some have not named themselves yet."""


class _BoundedSocket(AssociationSocket):
    def recv(self, nr_bytes: int) -> bytearray:
        if nr_bytes > 2 * MAX_PDU:
            raise OSError("a PDU longer than any that was agreed on")
        if self.socket is None:
            raise OSError("closed")
        data = bytearray()
        while len(data) < nr_bytes and (part := self.socket.recv(nr_bytes - len(data))):
            data += part
        return data


class _Handler(RequestHandler):
    server: AssociationServer

    def setup(self) -> None:
        self._accepted = self.request
        self.request.settimeout(_TIMEOUT)
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.server.tls is not None:
            self.request = self.server.tls.wrap_socket(self.request, server_side=True)

    def handle(self) -> None:
        super().handle()
        self.server.places.pop(self._accepted)  # the association's thread has it now

    def _create_association(self) -> Any:
        association: Any = super()._create_association()
        # The association takes one socket only, and it was made a line above.
        association.dul.socket.__class__ = _BoundedSocket
        place, run = self.server.places[self._accepted], association.run

        def run_and_leave() -> None:
            try:
                run()
            finally:
                place.leave()

        association.run = run_and_leave
        return association


class AssociationServer(BoundedServer, ThreadedAssociationServer):
    """The server_class for `AE.make_server`, with `tls` in place of ssl_context."""

    daemon_threads = True

    def __init__(self, *arguments: Any, tls: ssl.SSLContext | None = None, **more: Any) -> None:
        self.tls = tls
        self.tls_failures = 0
        self._counting = threading.Lock()
        more["request_handler"] = _Handler
        connections = _CONNECTIONS * arguments[0].maximum_associations
        super().__init__(*arguments, connections=connections, **more)

    def tell(self, open_files: int, limits: Limits) -> None:
        event(
            "limits",
            open_files=open_files,
            connections=limits.most,
            an_address=limits.an_address,
        )

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Counts a failed connection, which socketserver would print."""
        with self._counting:
            self.tls_failures += self.tls is not None


def tls_context(certificate: str, key: str, clients: str) -> ssl.SSLContext:
    """TLS 1.2 or newer that asks every client for a certificate (PS3.15, B.12).

    Raises OSError, ssl.SSLError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(clients)
    context.verify_mode = ssl.CERT_REQUIRED
    return context
