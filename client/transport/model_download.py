"""Fetches the bundle of an approved model from the coordinator, in parts that fit the line."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path

from client.transport.fleet_calls import FleetCalls
from client.transport.fleet_config import FleetConfig
from client.transport.http_connection import HttpConnection
from client.transport.pace import Pace
from protocol import durable_files
from protocol.errors import Code, WardroundError
from protocol.wire.flower_encoding import PART
from protocol.wire.offered_models import LARGEST, PREFIX


class ModelDownload:
    """A site's line for bundles, beside that of its studies. `fetch` belongs to one thread."""

    def __init__(self, config: FleetConfig) -> None:
        self._config = config
        self._pace, self._closing = Pace(), threading.Event()
        self._line: HttpConnection | None = None

    def fetch(self, digest: str, target: Path) -> bool:
        """Adds to `target` what it lacks of the bundle, as far as it came: a break of the line, or
        of this process, costs the part that was under way. False where it is not offered.

        Raises WardroundError: UNREACHABLE, TLS and what else a call raises; MESSAGE for one that is
        larger than LARGEST or does not go on; CallInterrupted after `close`; OSError of the disk.
        """
        calls = FleetCalls(self._config)
        self._line = line = calls.line()
        try:
            while True:
                held = target.stat().st_size if target.exists() else 0
                wanted, began = self._pace.part, time.monotonic()
                if self._closing.is_set():
                    line.interrupt()
                answer = calls.part_of(line, f"{PREFIX}/{digest}", held, wanted)
                if answer.status == 404:
                    return False
                size = _size(answer.headers.get(PART, ""))
                self._pace.took(len(answer.body), time.monotonic() - began)
                durable_files.append(target, answer.body)
                if held + len(answer.body) >= size:
                    return True
                if not answer.body:
                    raise WardroundError(Code.MESSAGE, "A model does not go on.")
        finally:
            line.close()

    def close(self) -> None:
        """Ends `fetch` at once and for good; from any thread."""
        self._closing.set()
        if self._line is not None:
            self._line.interrupt()


def _size(text: str) -> int:
    """Bytes of the whole file. Raises WardroundError(MESSAGE)."""
    if not re.fullmatch(r"[0-9]{1,12}", text) or int(text) > LARGEST:
        raise WardroundError(
            Code.MESSAGE,
            "A model is larger than may be sent, or the coordinator does not say how large.",
            remedy="Take it as a file: `wardround export`.",
        )
    return int(text)
