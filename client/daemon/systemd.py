"""Notifies systemd of the service's state (sd_notify(3)), in datagrams to NOTIFY_SOCKET."""

from __future__ import annotations

import os
import socket

from protocol.housekeeping import Housekeeping


def notify(*lines: str) -> None:
    """Sends `READY=1`, `STOPPING=1`, `WATCHDOG=1` or `STATUS=...`, where systemd listens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with (
        Housekeeping().task("notify"),  # the manager may be gone, or no file be left for a socket
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out,
    ):
        out.connect("\0" + address[1:] if address[0] == "@" else address)
        out.sendall("\n".join(lines).encode())


def watchdog_seconds() -> float | None:
    """Returns how often systemd wants `WATCHDOG=1` (sd_watchdog_enabled(3)); None for never."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if microseconds.isdigit() and int(microseconds) else None
