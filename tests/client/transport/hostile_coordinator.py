"""A coordinator with the right certificate that answers whatever a test says."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from typing import Self

from flwr.proto import fleet_pb2

from server.enrolment.certificates import Pki

Reply = Callable[[str], bytes]
"""The last part of a route -> the bytes of the whole HTTP answer."""


def http(body: bytes, *lines: str, status: str = "200 OK") -> bytes:
    """An HTTP answer with this body and these further header fields."""
    head = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *lines]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


class HostileCoordinator:
    """Listens inside `with`. Activates every site, and answers the rest by `reply`."""

    def __init__(self, pki: Pki, reply: Reply) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pki.certificate, pki.private_key)
        self._reply = reply
        self._listening = socket.create_server(("127.0.0.1", 0))

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._listening.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        try:
            with self._context.wrap_socket(plain, server_side=True) as secured:
                reader = secured.makefile("rb")
                while line := reader.readline():
                    route, length = line.split()[1].decode().rsplit("/", 1)[-1], 0
                    while (field := reader.readline().strip().lower()) != b"":
                        if field.startswith(b"content-length:"):
                            length = int(field.split(b":")[1])
                    reader.read(length)
                    if route == "activate-node":
                        activated = fleet_pb2.ActivateNodeResponse(node_id=7)
                        secured.sendall(http(activated.SerializeToString()))
                    else:
                        secured.sendall(self._reply(route))
        except OSError:
            return
