"""TCP ports of this machine: finds a free one, and waits until something listens."""

from __future__ import annotations

import contextlib
import socket
import time

LOOPBACK = "127.0.0.1"


def free_port(port: int = 0) -> int:
    """A free loopback port, or `port` itself. Raises OSError where that one is in use."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((LOOPBACK, port))
        return int(probe.getsockname()[1])


def is_listening(host: str, port: int, timeout: float) -> bool:
    """Whether something accepts connections there within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((host, port), 1.0):
            return True
        time.sleep(0.1)
    return False
