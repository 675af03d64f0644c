"""A receiver as a process that can be killed: the console script, on a port of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from client.enrolment.new_site import init
from client.enrolment.site_template import SiteAnswers
from tests.waiting import HUNG, until

_START = "import sys; from client.cli.main import main; sys.argv[0] = 'wardround-site'; main()"
_LIMITED = (
    "import resource as r, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
    "r.setrlimit(r.RLIMIT_FSIZE, ({size}, {size}));"
)


def site(folder: Path, **receiver: Any) -> Path:
    """A site with a receiver for the titles A, B and STORESCU."""
    init(folder, SiteAnswers(site="alpha"))
    settings = {
        "listen": "127.0.0.1:0",
        "calling": ["A", "B", "STORESCU", "DCMSEND", "ECHOSCU", "ORTHANC"],
        "quiet": 1,
        "floor": "1 MiB",
    }
    with (folder / "site.yaml").open("a") as file:
        yaml.safe_dump({"imaging": {"receiver": settings | receiver}}, file)
    return folder


class Process:
    """`wardround-site receive --log json`. `largest_file`: bytes, beyond which writing fails."""

    def __init__(self, folder: Path, largest_file: int | None = None) -> None:
        self.folder, self.log = folder, folder / "receive.log"
        limit = _LIMITED.format(size=largest_file) if largest_file else ""
        command = [sys.executable, "-c", limit + _START, "receive", "-c", str(folder)]
        with self.log.open("ab") as log:
            start = log.tell()
            self.process = subprocess.Popen([*command, "--log", "json"], stdout=log, stderr=log)
        self._start = start
        self.port = int(str(self.event("listening")["address"]).rpartition(":")[2])

    @property
    def store(self) -> Path:
        return self.folder / "state/dicom"

    def stored(self) -> list[Path]:
        return sorted(self.store.glob("*/*.dcm"))

    def events(self) -> list[dict[str, Any]]:
        with self.log.open("rb") as file:
            file.seek(self._start)
            lines = file.read().decode().split("\n")[:-1]
        return [json.loads(line) for line in lines]

    def event(self, name: str) -> dict[str, Any]:
        """Waits for an event of this process. Raises AssertionError where it ends without."""

        def found() -> dict[str, Any] | None:
            return next((event for event in self.events() if event["event"] == name), None)

        until(lambda: found() or self.process.poll() is not None, f"the event {name}")
        event = found()
        assert event is not None, f"no event {name}: {self.log.read_text()}"
        return event

    def stop(self) -> int:
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGTERM)
        return self.process.wait(HUNG)

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(HUNG)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()
