"""Child processes that end with this one, however it ends (guard_process.py sees to it)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from sysconfig import get_path

from launch.demo import guard_process


class GuardedProcess:
    """A command that runs until `stop`, or until this process is gone."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        """`log` takes what the command prints, appended, readable by its owner only."""
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", guard_process.__file__, *command],
                stdin=subprocess.PIPE,
                stdout=descriptor,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                cwd=cwd,
                start_new_session=True,
            )
        finally:
            os.close(descriptor)

    @property
    def pid(self) -> int:
        """Of the guard, whose only child runs the command."""
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def end(self) -> None:
        """Asks the command and its process group to end, and returns at once."""
        if self._process.stdin is not None:
            self._process.stdin.close()

    def stop(self) -> None:
        """Ends them and waits until they are gone; harmless where they are."""
        self.end()
        self._process.wait()


def script(name: str) -> str:
    """A console script of this environment."""
    return str(Path(get_path("scripts")) / name)


def stop_all(processes: Sequence[GuardedProcess]) -> None:
    """Ends all of them together."""
    for process in processes:
        process.end()
    for process in processes:
        process.stop()
