"""A large answer over a slow line, whole and through breaks, beside a study of fast sites.

    python bench/slow_line.py

One coordinator and three sites over TLS. The slow site's uplink carries 50 kB/s (a proxy on
loopback), and its answer has 8 MiB; meanwhile two fast sites are asked again and again, in a study
of their own, for answers of 1 MiB. Then the same while the slow line breaks five times. Figures:
times of what the line needs for the bytes alone; attempts lost; a fast round's median, over that
of fast rounds before and after, without the slow site. About seven minutes.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from client.transport.fleet_config import FleetConfig
from client.transport.fleet_connection import FleetConnection
from client.transport.node_key import create_node_key
from protocol.errors import WardroundError
from protocol.wire.messages import Frame, chunks
from server.enrolment.certificates import Pki
from server.transport.superlink import SuperLink, SuperLinkConfig
from support.figure import figure, load
from tests.cases.federation.slow_line import SlowLine

RATE = 50_000
"""Bytes a second."""
SIZE, FAST = 8 << 20, 1 << 20
CUTS = 5
ALONE = 40
"""Fast rounds without the slow site."""
LINE = SIZE / RATE
"""Seconds that the line needs for the bytes."""
PATIENCE = 120.0
"""Seconds in which an answer must begin."""


def main() -> int:
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        pki = Pki(folder / "pki")
        pki.create("Bench", ["127.0.0.1"])
        link = stack.enter_context(SuperLink(SuperLinkConfig(pki.certificate, pki.private_key)))
        port = int(link.address.rpartition(":")[2])
        line = stack.enter_context(SlowLine(port, RATE))
        for site, address, size in (
            ("slow", f"127.0.0.1:{line.port}", SIZE),
            ("fast1", link.address, FAST),
            ("fast2", link.address, FAST),
        ):
            link.register(site, create_node_key(folder / site))
            config = FleetConfig(address, pki.ca_certificate, folder / site)
            stack.enter_context(answering(FleetConnection(config), size))
        while len(link.online()) < 3:
            time.sleep(0.05)
        fast_rounds(link, 3)
        held = [measure(link, line, cuts) for cuts in (0, CUTS)]
    return 0 if all(held) else 1


def measure(link: SuperLink, line: SlowLine, cuts: int) -> bool:
    """One answer of the slow site, its line broken `cuts` times at even distances."""
    came: list[int] = []
    alone = fast_rounds_alone(link)

    def ask() -> None:
        with link.open_run("slow") as run:
            for _, frame in run.ask({"slow": Frame(b"{}")}, PATIENCE):
                came.append(0 if frame is None else sum(len(part) for part in frame.body))

    asking = threading.Thread(target=ask)
    began, sent = time.monotonic(), line.sent
    asking.start()
    beside, broken = list[float](), 0
    while asking.is_alive():
        beside += paced_round(link)
        if broken < cuts and time.monotonic() - began > (broken + 1) * LINE / (cuts + 1):
            line.cut()
            broken += 1
    seconds = time.monotonic() - began
    alone += fast_rounds_alone(link)  # before and after: what else runs here changes
    how = f"_{cuts}_cuts" if cuts else ""
    ratio = statistics.median(beside) / statistics.median(alone)
    held = [
        figure(
            f"slow_line{how}", seconds / LINE, "times the line's own time", 1.15,
            seconds=round(seconds, 1), line_seconds=round(LINE, 1), cuts=broken,
            megabytes_sent=round((line.sent - sent) / 1e6, 2), load=load(),
        ),
        figure(f"slow_line{how}_lost", sum(size != SIZE for size in came), "attempts", 0),
        figure(f"slow_line{how}_fast_study", ratio, "times its own round", 1.5,
               rounds=len(beside), alone_s=round(statistics.median(alone), 4)),
    ]  # fmt: skip
    return all(held)


def fast_rounds_alone(link: SuperLink) -> list[float]:
    return [seconds for _ in range(ALONE) for seconds in paced_round(link)]


def paced_round(link: SuperLink) -> list[float]:
    """A fast round, and a pause as for training."""
    time.sleep(0.2)
    return fast_rounds(link, 1)


def fast_rounds(link: SuperLink, rounds: int) -> list[float]:
    """Seconds of each."""
    taken = []
    with link.open_run("fast") as run:
        for _ in range(rounds):
            began = time.perf_counter()
            for _, frame in run.ask({"fast1": Frame(b"{}"), "fast2": Frame(b"{}")}, PATIENCE):
                if frame is None or sum(len(part) for part in frame.body) != FAST:
                    raise SystemExit("a fast site gave no answer")
            taken.append(time.perf_counter() - began)
    return taken


@contextmanager
def answering(connection: FleetConnection, size: int) -> Iterator[None]:
    """A site that gives every question an answer of `size` bytes, from a thread."""
    body = chunks(np.random.default_rng(size).integers(0, 2**32, size // 4, dtype=np.uint32))

    def serve() -> None:
        with connection:
            while not stopping.is_set():
                try:
                    if (asked := connection.receive(wait=5)) is not None:
                        connection.reply(asked, Frame(b"{}", body))
                except WardroundError:
                    continue

    stopping = threading.Event()
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        connection.close()
        thread.join(30)


if __name__ == "__main__":
    raise SystemExit(main())
