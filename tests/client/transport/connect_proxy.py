"""An HTTP proxy that connects through, as hospitals have them."""

from __future__ import annotations

import socket
import threading
from base64 import b64encode
from contextlib import suppress
from types import TracebackType
from typing import Self

from tests.waiting import HUNG


class ConnectProxy:
    """Listens on loopback. What it does with a request can be changed at any time."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.login: str | None = None
        """user:password that it asks for."""
        self.schemes: tuple[str, ...] = ("Basic realm=hospital",)
        self.answer: bytes | None = None
        """What it answers to everything instead of connecting; b"" to hang up."""
        self.names: dict[str, str] = {}
        """Hosts by the names that only the proxy knows."""
        self.asked: list[str] = []
        """The first line of every request."""
        self.connected = 0
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listening = socket.create_server((host, 0), family=family)
        self.port: int = self._listening.getsockname()[1]
        self._open: list[socket.socket] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listening.close()
        self.cut()

    def cut(self) -> None:
        """Breaks every connection that there is."""
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                self._open.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                byte = client.recv(1)
                if not byte:
                    return
                head += byte
            first, *fields = head.decode().splitlines()
            self.asked.append(first)
            if self.answer is not None:
                client.sendall(self.answer)
                return
            if self.login is not None:
                expected = b64encode(self.login.encode()).decode()
                if f"Proxy-Authorization: Basic {expected}" not in fields:
                    wanted = "".join(f"Proxy-Authenticate: {s}\r\n" for s in self.schemes)
                    client.sendall(f"HTTP/1.1 407 Login\r\n{wanted}\r\n".encode())
                    return
            host, _, port = first.split()[1].rpartition(":")
            target = (self.names.get(host, host.strip("[]")), int(port))
            with socket.create_connection(target, timeout=HUNG) as server:
                self._open.append(server)
                self.connected += 1
                client.sendall(b"HTTP/1.0 200 Connection established\r\nVia: 1.1 test\r\n\r\n")
                back = threading.Thread(target=_pump, args=(server, client), daemon=True)
                back.start()
                _pump(client, server)
                back.join(HUNG)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(65536):
            sink.sendall(piece)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
