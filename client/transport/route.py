"""The way to the coordinator: its addresses, looked up anew for each connection, and the proxy."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

from client.config.proxy_settings import ProxySettings
from client.transport.proxy import Proxy, proxy_of
from protocol.address import Address
from protocol.errors import Code, WardroundError

T = TypeVar("T")


@dataclass(frozen=True)
class Route:
    """target: the coordinator. seconds: for each step of a connection."""

    target: Address
    proxy: Proxy | None = None
    seconds: float = 20.0

    @staticmethod
    def to(address: str, proxy: Proxy | None = None, seconds: float = 20.0) -> Route:
        """`address`: host:port. Raises WardroundError(CONFIGURATION) for another form."""
        try:
            return Route(Address.parse(address, min_port=1), proxy, seconds)
        except ValueError:
            raise WardroundError(
                Code.CONFIGURATION,
                f"The coordinator's address {address!r} is not of the form host:port.",
                remedy="Write it like coordinator.example.org:9092.",
            ) from None

    @staticmethod
    def from_here(address: str, settings: ProxySettings | None) -> Route:
        """As site.yaml and this process's environment say. Raises WardroundError(CONFIGURATION)."""
        direct = Route.to(address)
        return replace(direct, proxy=proxy_of(settings, direct.target, os.environ))

    def open(
        self,
        secure: Callable[[socket.socket], T],
        begin: Callable[[socket.socket], None] = lambda _: None,
    ) -> T:
        """Connects, to each address in turn until one lets `secure` finish what it does with the
        connection. `begin` is told of each step's socket.

        Raises OSError of the last address, and WardroundError(UNREACHABLE) where the name is
        unknown or the proxy is what fails.
        """
        fault: OSError = OSError("no address")
        for connected in self._connected(begin):
            if isinstance(connected, OSError):
                fault = connected
                continue
            try:
                if self.proxy is not None:
                    self.proxy.tunnel(connected, self.target)
                return secure(connected)
            except OSError as error:
                connected.close()
                if isinstance(error, ssl.SSLCertVerificationError):
                    raise
                fault = error
            except BaseException:
                connected.close()
                raise
        raise fault

    def _connected(
        self, begin: Callable[[socket.socket], None]
    ) -> Iterator[socket.socket | OSError]:
        for family, kind, protocol, _, address in self._addresses():
            plain = socket.socket(family, kind, protocol)
            try:
                plain.settimeout(self.seconds)
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                begin(plain)
                plain.connect(address)
            except OSError as error:
                plain.close()
                yield self._fault(error)
                continue
            yield plain

    def _fault(self, error: OSError) -> OSError:
        return error if self.proxy is None else ProxyUnreachable(self.proxy.unreachable(error))

    def _addresses(self) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        first = self.target if self.proxy is None else self.proxy.address
        try:
            found: list[tuple[int, int, int, str, tuple[str, int]]]
            found = socket.getaddrinfo(first.host, first.port, type=socket.SOCK_STREAM)  # type: ignore[assignment]  # IPv6 addresses have four parts
        except (socket.gaierror, UnicodeError):
            whose = "coordinator" if self.proxy is None else "proxy"
            raise WardroundError(
                Code.UNREACHABLE,
                f"The {whose}'s name {first.host} is not known here.",
                remedy="Check the name and this machine's name service (DNS). It is looked up "
                "again at each try.",
            ) from None
        return found


class ProxyUnreachable(OSError):
    """The proxy itself was not reached; `error` says so to a person."""

    def __init__(self, error: WardroundError) -> None:
        super().__init__(str(error))
        self.error = error
