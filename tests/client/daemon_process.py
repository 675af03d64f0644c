"""A daemon as a process that can be killed: the console script's own `main`, in a forked child."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from client.governance.database import SiteState
from tests.client.kill_points import arm
from tests.forked import child
from tests.waiting import HUNG


def run_command(
    arguments: Sequence[str], log: str, point: str | None, record: str, env: Mapping[str, str]
) -> None:
    """In the child: the console script, its standard error in `log`. TODAY of `env` is what day it
    is there."""
    os.environ.update(env)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 2)
    os.dup2(descriptor, 1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    arm(point, Path(record))
    if today := env.get("TODAY"):
        patch.object(SiteState, "today", lambda _: today).start()
    from client.cli.main import main

    sys.argv = ["wardround-site", *arguments]
    main()


class Daemon:
    """One daemon's process. `record` lists the attempts whose data it touched."""

    def __init__(
        self, folder: Path, point: str | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        self.log, self.record = folder / "daemon.log", folder / "computed"
        arguments = ("start", "--config", str(folder), "--log", "json")
        self.process = child(
            run_command, arguments, str(self.log), point, str(self.record), dict(env or {})
        )

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        if self.process.pid is not None and self.process.is_alive():
            os.kill(self.process.pid, signal.SIGTERM)
        return self.ended()

    def ended(self) -> int:
        self.process.join(HUNG)
        status = self.process.exitcode
        assert status is not None, f"still running: {self.log.read_text()[-2000:]}"
        return status

    def events(self) -> list[dict[str, Any]]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
