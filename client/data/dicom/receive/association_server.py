"""pynetdicom's server, hardened against strangers: TLS in a thread of its own, bounds, timeouts.

By itself, pynetdicom does TLS handshakes in the thread that accepts, so that one silent peer blocks
all others; reads a PDU of any length into memory before it knows the sender; waits for the rest of
one for ever; and counts among its associations whoever has connected, also after the connection is
closed. Here a peer has seconds to ask for an association and counts from then on.
"""

from __future__ import annotations

import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from client.data.dicom.receive.association_request import as_understood
from client.log_events import event
from protocol.connections import Limits
from protocol.operations.bounded_server import BoundedServer

MAX_PDU = 1 << 20
"""Bytes, as announced to senders; at most twice as many are read."""
_TIMEOUT = 60.0
"""Seconds without a byte within a PDU of an association."""
INTRODUCTION = 10.0
"""Seconds for a TLS handshake, and as many until the request of an association is complete."""
_ENDED, _FAREWELL = "Sta13", 1.0
"""Waiting for the peer to close (PS3.8, section 9.2.1), and for how many seconds once it says more.
"""
_CONNECTIONS = 4
"""Connections for each association that is allowed: some have not named themselves yet."""


class _Contexts(list[Any]):
    """The presentation contexts of all associations, which only read them. pynetdicom copies them
    for each: 10,000 UIDs for every probe of the port."""

    def __deepcopy__(self, _: object) -> _Contexts:
        return self


class Entity(AE):
    """An application entity whose limit counts who has asked for an association and may have one:
    no stranger, and nobody who has only connected."""

    @property
    def active_associations(self) -> list[Any]:
        return [each for each in super().active_associations if self._may_send(each)]

    def _may_send(self, association: Any) -> bool:
        asked = association.requestor.primitive
        return asked is not None and asked.calling_ae_title in self.require_calling_aet


class _BoundedSocket(AssociationSocket):
    introduced_by: float

    def recv(self, nr_bytes: int) -> bytearray:
        if nr_bytes > 2 * MAX_PDU:
            raise OSError("a PDU longer than any that was agreed on")
        if self.socket is None:
            raise OSError("closed")
        if self.assoc.dul.state_machine.current_state == _ENDED:
            self._drain(self.socket)
            return bytearray()
        data = bytearray()
        while len(data) < nr_bytes:
            self.socket.settimeout(self._patience())
            if not (part := self.socket.recv(nr_bytes - len(data))):
                break
            data += part
        self.socket.settimeout(_TIMEOUT)  # for what is sent
        return data

    def _drain(self, line: socket.socket) -> None:
        """Takes what still comes, and looks at none of it: pynetdicom would answer every byte of no
        PDU by an A-ABORT. To close over unread bytes would take the answer away from the peer."""
        until, size = time.monotonic() + _FAREWELL, 0
        with suppress(TimeoutError):
            while (left := until - time.monotonic()) > 0 and size < 2 * MAX_PDU:
                line.settimeout(left)
                if not (part := line.recv(1 << 16)):
                    return
                size += len(part)

    def _patience(self) -> float:
        """Seconds for the next byte: a stranger's run out, however slowly it speaks."""
        if self.assoc.requestor.primitive is not None:
            return _TIMEOUT
        if (left := self.introduced_by - time.monotonic()) <= 0:
            raise TimeoutError
        return left


class _ClosedUnused(OSError):
    """A connection was closed before its first byte: a probe of the port."""


def _forget_stranger(event: Any) -> None:
    """The connection is closed: whoever waits for the request of an association waits no more."""
    if event.assoc.requestor.primitive is None:
        event.assoc.dul.to_user_queue.put(None)


def _decoded(decode: Callable[[bytes], tuple[Any, str]], pdu: bytearray) -> tuple[Any, str]:
    """A PDU as pynetdicom's state machine takes it. What breaks here is answered by A-ABORT
    (PS3.8, section 9.2, AA-1); within the machine it would end the machine, and leave the
    connection open and unanswered. So would a presentation context that names no syntax (PS3.8,
    section 9.3.2.2) within the negotiation."""
    decoded, happened = decode(as_understood(bytes(pdu)))
    decoded.to_primitive()
    if isinstance(decoded, A_ASSOCIATE_RQ):
        for context in decoded.presentation_context:
            if context.abstract_syntax is None or not context.transfer_syntax:
                raise ValueError("a presentation context without its syntaxes")
    return decoded, happened


class _Handler(RequestHandler):
    server: AssociationServer

    def setup(self) -> None:
        self._accepted = self.request
        self.request.settimeout(INTRODUCTION)
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.server.tls is not None:
            if not self.request.recv(1, socket.MSG_PEEK):
                raise _ClosedUnused
            self.request = self.server.tls.wrap_socket(self.request, server_side=True)

    def handle(self) -> None:
        super().handle()
        self.server.places.pop(self._accepted)  # the association's thread has it now

    def _create_association(self) -> Any:
        association: Any = super()._create_association()
        # The association takes one socket only, and it was made a line above.
        association.dul.socket.__class__ = _BoundedSocket
        association.dul.socket.introduced_by = time.monotonic() + INTRODUCTION
        association.bind(evt.EVT_CONN_CLOSE, _forget_stranger)
        association.dul._decode_pdu = partial(_decoded, association.dul._decode_pdu)
        place, run = self.server.places[self._accepted], association.run

        def run_and_leave() -> None:
            try:
                run()
            except BaseException:  # or a connection would be open that nobody counts
                association.dul.socket.close()
                raise
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
        self.contexts = _Contexts(self.contexts)

    def log_limits(self, open_files: int, limits: Limits) -> None:
        event(
            "limits",
            open_files=open_files,
            connections=limits.max_connections,
            an_address=limits.per_address,
        )

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Counts a failed connection, which socketserver would print."""
        failed = self.tls is not None and not isinstance(sys.exception(), _ClosedUnused)
        with self._counting:
            self.tls_failures += failed


def tls_context(certificate: str, key: str, clients: str) -> ssl.SSLContext:
    """The BCP 195 TLS Profile (PS3.15, B.12), with a certificate asked of every client: TLS 1.2 or
    newer, of 1.2 the suites that RFC 9325, section 4.2 recommends, and no renegotiation.

    Raises OSError, ssl.SSLError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM")
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(clients)
    context.verify_mode = ssl.CERT_REQUIRED
    return context
