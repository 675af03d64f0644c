"""Strangers who connect without a key: what is beyond the limits is closed before TLS."""

from __future__ import annotations

import resource
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.server.transport.live_superlink import Door, open_door
from tests.waiting import HUNG, until

HERE, ELSEWHERE = "127.0.0.1", "127.0.0.2"
"""Two addresses of this machine."""


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    with open_door(tmp_path, connections=8) as opened:
        yield opened


def connect(door: Door, source: str = HERE) -> socket.socket:
    host, _, port = door.link.address.rpartition(":")
    return socket.create_connection((host, int(port)), HUNG, (source, 0))


def test_strangers_who_speak_no_http_fill_no_log(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    context = ssl.create_default_context(cafile=str(door.pki.ca_certificate))
    for _ in range(3):
        with context.wrap_socket(connect(door), server_hostname="127.0.0.1") as line:
            line.sendall(b"garbage\r\n\r\n")
            assert line.recv(1 << 16).startswith(b"HTTP/1.1 400")
    assert not caplog.records


def is_closed(line: socket.socket) -> bool:
    """Waits for the first byte or the end; nobody is sent a byte before TLS."""
    try:
        return line.recv(1) == b""
    except ConnectionResetError:
        return True


def test_one_address_does_not_shut_out_the_others(door: Door) -> None:
    door.register("north")
    limits = door.link.limits
    assert (limits.max_connections, limits.per_address) == (8, 4)
    with ExitStack() as open_lines:
        for _ in range(limits.per_address):
            open_lines.enter_context(connect(door))
        until(lambda: len(door.link._connections) == 4, "four are held")
        for _ in range(3):
            with connect(door) as refused:
                assert is_closed(refused)
        others = [open_lines.enter_context(connect(door, ELSEWHERE)) for _ in range(4)]
        until(lambda: len(door.link._connections) == 8, "the others are let in")
        with connect(door, "127.0.0.3") as refused:
            assert is_closed(refused)
        for line in others:
            line.close()
        until(lambda: len(door.link._connections) == 4, "their places are free again")
    until(lambda: len(door.link._connections) == 0, "all places are free again")
    with door.connection("north") as site:
        site.connect()
        assert door.link.online() == {"north"}
    refusals = [e for e in door.events() if e["event"] == "refused"]
    assert [e["address"] for e in refusals] == [HERE] * 3 + ["127.0.0.3"]
    assert {e["reason"] for e in refusals} == {"too-many"}


def test_what_is_no_tls_gives_its_place_back(door: Door) -> None:
    for _ in range(12):
        with connect(door) as line:
            line.sendall(b"GET / HTTP/1.1\r\n\r\n")
            while line.recv(4096):
                pass
    until(lambda: len(door.link._connections) == 0, "all places are free again")


def test_a_process_out_of_files_accepts_again_once_it_has_some(door: Door) -> None:
    """github.com/Kludex/uvicorn/issues/1030: servers that never accepted again, or span."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as files:
        line = files.enter_context(socket.socket())
        last = files.enter_context(socket.socket()).fileno()
        resource.setrlimit(resource.RLIMIT_NOFILE, (last + 1, limits[1]))
        try:
            while True:
                try:
                    files.enter_context(Path("/dev/null").open("rb"))
                except OSError:
                    break  # none is left
            host, _, port = door.link.address.rpartition(":")
            line.connect((host, int(port)))
            until(lambda: door.link._events.trouble, "it has noticed")
            assert len(door.link._connections) == 0
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        until(lambda: len(door.link._connections) == 1, "it accepts again")
    door.link._events.write("after")
    assert "events-lost" in {event["event"] for event in door.events()}
