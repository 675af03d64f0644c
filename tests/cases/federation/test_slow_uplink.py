"""A large answer over a slow uplink comes through as long as it moves.

An answer of 1.25 MiB goes over an uplink of 50 kB/s, through the real Fleet client and the real
SuperLink. That takes 26 s, longer than any part of it may stand still: 15 s here, a quarter of
`WINDOW`. The coordinator asks with a limit of 300 s. A transfer that moves must not be given up.
The kind of fault: a time-out on the whole instead of on progress, where what came is thrown away.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from client.transport import pace
from client.transport.fleet_config import FleetConfig
from client.transport.fleet_connection import FleetConnection
from protocol.errors import WardroundError
from protocol.wire.messages import Frame, chunks
from protocol.wire.progress import WINDOW
from server.transport import gateway
from tests.cases.federation.slow_line import SlowLine
from tests.server.transport.live_superlink import open_door
from tests.waiting import HUNG, until

RATE = 50_000
"""Bytes a second."""
SIZE = 5 << 18
LIMIT = 300.0
STALL = WINDOW / 4
assert SIZE / RATE > 1.5 * STALL, "a time-out on the whole would not be noticed"


@contextmanager
def answering(connection: FleetConnection, answer: Frame, line: SlowLine) -> Iterator[None]:
    """A site that gives every question the same answer, from a thread."""
    stopping = threading.Event()

    def serve() -> None:
        with connection:
            while not stopping.is_set():
                try:
                    delivery = connection.receive(wait=1)
                    if delivery is not None:
                        connection.reply(delivery, answer)
                except WardroundError:
                    continue

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with ExitStack() as stack:
        stack.callback(thread.join, HUNG)
        stack.callback(line.close)  # an answer that is under way would hold the thread for long
        stack.callback(connection.close)
        stack.callback(stopping.set)
        yield


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_answer_over_a_slow_uplink_comes_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "WINDOW", STALL)
    monkeypatch.setattr(gateway, "_BODY_SECONDS", STALL)
    words = np.random.default_rng(0).integers(0, 2**32, SIZE // 4, dtype=np.uint32)
    with (
        open_door(tmp_path, stall=STALL) as door,
        SlowLine(int(door.link.address.rpartition(":")[2]), RATE) as line,
    ):
        door.register("slow")
        connection = FleetConnection(
            FleetConfig(
                f"127.0.0.1:{line.port}",
                door.pki.ca_certificate,
                door.key("slow"),
                call_timeout=STALL,
            )
        )
        with answering(connection, Frame(b"{}", chunks(words)), line):
            until(lambda: "slow" in door.link.online(), "the site is online")
            began, got = time.monotonic(), None
            for _, frame in door.link.ask({"slow": Frame(b'{"a":1}')}, LIMIT):
                got = None if frame is None else sum(len(part) for part in frame.body)
            seconds, sent = time.monotonic() - began, line.sent
    assert got == SIZE, f"given up after {seconds:.0f} s of {LIMIT:.0f}, {sent / 1e6:.1f} MB came"
