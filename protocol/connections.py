"""How many connections a listener holds: in all, from one address, and as its open files allow.

A stranger needs no key to connect, and every connection is an open file of the process. A listener
therefore counts from the moment of accepting, before TLS, and closes at once what is beyond.
"""

from __future__ import annotations

import resource
import threading
from collections import Counter
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

ACCEPT_PAUSE = 0.5
"""Seconds before accepting again where the system has no file or memory left for a connection."""


def raise_open_files() -> int:
    """Raises the process's soft limit of open files to its hard limit; the limit from now on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):  # a system may refuse what it names as the hard limit
        return soft
    return hard


@dataclass(frozen=True)
class Limits:
    """Connections at once: in all, and from one address (of IPv6, from one network of 64 bits)."""

    max_connections: int
    per_address: int

    @staticmethod
    def fitting(wanted: int, open_files: int) -> Limits:
        """At most `wanted`, so that a quarter of the open files stays free for everything else;
        one address may hold half, so that no single one shuts out the others."""
        total = wanted if open_files < 0 else max(2, min(wanted, open_files * 3 // 4))
        return Limits(total, total // 2)


class Connections:
    """The open connections of one listener. May be used from any thread."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._open: Counter[str] = Counter()
        self._lock = threading.Lock()

    def admit(self, address: str) -> Connection | None:
        """A place for a connection from this address; None where it is one too many."""
        source = _source(address)
        with self._lock:
            if self._open.total() >= self.limits.max_connections:
                return None
            if self._open[source] >= self.limits.per_address:
                return None
            self._open[source] += 1
        return Connection(self, source)

    def __len__(self) -> int:
        with self._lock:
            return self._open.total()

    def _leave(self, source: str) -> None:
        with self._lock:
            self._open[source] -= 1
            if not self._open[source]:
                del self._open[source]


class Connection:
    """One admitted connection's place."""

    def __init__(self, connections: Connections, source: str) -> None:
        self._connections: Connections | None = connections
        self._source = source

    def leave(self) -> None:
        """The connection is closed. May be called again."""
        connections, self._connections = self._connections, None
        if connections is not None:
            connections._leave(self._source)


def _source(address: str) -> str:
    """Whose connections count together."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(IPv6Address(int(parsed) >> 64 << 64))
