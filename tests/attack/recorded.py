"""A coordinator of its own process that keeps all it ever sees: every frame, and its whole memory.

What `wardround coordinator start` runs, with a recorder around it, as an operator could build one.
"""

from __future__ import annotations

import os
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch
from zlib import crc32

import pytest

from protocol.wire.messages import Frame
from tests.narrowing import present
from tests.server.tracking.patient import be_patient

_READ, _PAGE = 1 << 20, 1 << 12
_DUMPED = (2, 5)
"""Which openings are followed by a dump: the second of each study of two rounds."""


def pages() -> Iterator[tuple[int, bytes]]:
    """Address and content of this process's writable memory, but for stretches of zeros."""
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", buffering=0) as memory:
        for line in maps.readlines():
            place, access = line.split()[:2]
            if not access.startswith("rw") or line.endswith(("[vvar]\n", "[vsyscall]\n")):
                continue
            start, end = (int(edge, 16) for edge in place.split("-"))
            for at in range(start, end, _READ):
                try:
                    memory.seek(at)
                    block = memory.read(min(_READ, end - at))
                except (OSError, ValueError):
                    continue
                if block.count(0) < len(block):
                    for page in range(0, len(block), _PAGE):
                        yield at + page, block[page : page + _PAGE]


def record(folder: Path) -> None:
    """frames.bin gets every frame; N.dump the memory in which the Nth sum has just been opened,
    but for what stood there before the first message."""
    from protocol.secagg.aggregate import ShareSum
    from server.transport.fleet_run import FleetRun

    frames = (folder / "frames.bin").open("ab")
    ask, open_, opened = FleetRun.ask, ShareSum.open, [0]

    def keep(direction: bytes, site: str, frame: Frame) -> Frame:
        body = b"".join(bytes(chunk) for chunk in frame.body)
        for field in (direction, site.encode(), frame.header, body):
            frames.write(struct.pack("<Q", len(field)) + field)
        frames.flush()
        return Frame(frame.header, [body] if body else [])

    def asking(
        self: FleetRun, frames_: Mapping[str, Frame], timeout: float
    ) -> Iterator[tuple[str, Frame | None]]:
        kept = {site: keep(b"sent", site, frame) for site, frame in frames_.items()}
        for site, frame in ask(self, kept, timeout):
            yield site, None if frame is None else keep(b"received", site, frame)

    def dump(target: Path) -> None:
        last = -_PAGE
        with target.open("wb") as file:
            for at, page in pages():
                if before.get(at) != crc32(page) and page.count(0) < len(page):
                    if at != last + _PAGE:
                        file.write(bytes(64))  # what is apart in memory makes no run
                    file.write(page)
                    last = at

    def opening(self: ShareSum) -> Any:
        total = open_(self)
        opened[0] += 1
        if opened[0] in _DUMPED:
            dump(folder / f"{opened[0]}.dump")
        return total

    before = {at: crc32(page) for at, page in pages()}

    patch.object(FleetRun, "ask", asking).start()
    patch.object(ShareSum, "open", opening).start()


def read_frames(folder: Path) -> Iterator[tuple[str, str, bytes, bytes]]:
    """(direction, site, header, body), as they went."""
    data, at = (folder / "frames.bin").read_bytes(), 0
    while at < len(data):
        fields = []
        for _ in range(4):
            (length,) = struct.unpack_from("<Q", data, at)
            fields.append(data[at + 8 : at + 8 + length])
            at += 8 + length
        yield fields[0].decode(), fields[1].decode(), fields[2], fields[3]


def coordinate(
    folder: str,
    kept: str,
    studies: list[tuple[bytes, Mapping[str, Any]]],
    environment: Mapping[str, str],
) -> None:
    """In the child: the coordinator of `folder` runs these studies to their end.

    Its words are in coordinator.log; its exit status is 0 only where every study has finished.
    """
    os.environ |= {"OMP_NUM_THREADS": "1", **environment}
    log = os.open(f"{kept}/coordinator.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    import mlflow.pyfunc  # noqa: F401  (so that the dumps leave out what comes with it)

    from protocol.study.study import Study
    from server.coordinator.config import CoordinatorConfig
    from server.coordinator.journal import Journal
    from server.coordinator.service import Coordinator
    from server.tracking.study_tracking import TrackingRequest

    be_patient(pytest.MonkeyPatch())
    record(Path(kept))
    config = CoordinatorConfig.load(Path(folder))
    ending = threading.Event()
    with Coordinator(config, Journal(config.event_log)) as coordinator:
        serving = threading.Thread(target=coordinator.serve, args=(ending,))
        serving.start()
        try:
            for document, configuration in studies:
                digest, _ = coordinator.submit(
                    "attacker", Study.parse(document), configuration, TrackingRequest()
                )
                run = present(coordinator.study(digest))
                while run.state.works:
                    time.sleep(0.05)
                assert run.state == "finished", f"study {digest[:12]}: {run.state}"
        finally:
            ending.set()
            serving.join()
