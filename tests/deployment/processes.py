"""A command with all the processes and listening ports that came of it.

A port alone says nothing once its process has ended: another test may listen there by then.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from tests.waiting import HUNG, until

_MARK = "WARDROUND_TEST_COMMAND"
"""In the environment of each process that comes of a command."""


class Command:
    """Runs in a process group of its own, as a terminal's foreground job; output in two files."""

    def __init__(
        self, words: Sequence[str | Path], folder: Path, env: Mapping[str, str] | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.out, self.err = folder / "stdout", folder / "stderr"
        self.seen: dict[tuple[int, float], str] = {}
        """(process, when it was created) -> its command line: what came of it, where it lived for
        half a second."""
        self.ports: set[int] = set()
        self._mark = secrets.token_hex(16)
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self._process = subprocess.Popen(
                [str(word) for word in words],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=folder,
                env={**os.environ, "OMP_NUM_THREADS": "1", _MARK: self._mark, **(env or {})},
                process_group=0,
            )
        self._watching = threading.Thread(target=self._watch, daemon=True)
        self._watching.start()

    @property
    def said(self) -> str:
        """Standard output and error so far."""
        return self.out.read_text() + self.err.read_text()

    def until(self, true: Callable[[str], bool]) -> None:
        """Returns once `true(said)`. Raises AssertionError where the command ends before that."""

        def come_about() -> bool:
            going = self._process.poll() is None
            found = true(self.said)
            assert going or found, f"it ended: {self.said}"
            return found

        until(come_about, "what the command was to do")

    def interrupt(self, number: signal.Signals) -> None:
        """A signal to the foreground process group, as Ctrl-C sends it."""
        os.killpg(self._process.pid, number)

    def ended(self) -> int:
        """Its exit status; negative for a signal."""
        try:
            status = self._process.wait(3 * HUNG)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running: {self.said}") from None
        self._watching.join()
        return status

    def end(self) -> None:
        """Leaves nothing running, whatever came before."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for process in self.left():
            process.kill()

    def left(self) -> list[psutil.Process]:
        """Which of the processes that came of it are still there, whoever is their parent now."""
        seen = {process for process in map(_same, self.seen) if process is not None}
        return list(
            seen | {process for process in psutil.process_iter() if self._came_of_it(process)}
        )

    def until_none_is_left(self) -> None:
        until(lambda: not self.left(), "all its processes have ended")

    def _came_of_it(self, process: psutil.Process) -> bool:
        try:
            marked = process.environ().get(_MARK) == self._mark
            return marked and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False

    def _watch(self) -> None:
        while self._process.poll() is None:
            self._look()
            time.sleep(0.5)

    def _look(self) -> None:
        try:
            root = psutil.Process(self._process.pid)
            for process in [root, *root.children(recursive=True)]:
                key = (process.pid, process.create_time())
                if process.pid != self._process.pid:
                    self.seen[key] = " ".join(process.cmdline()) or self.seen.get(key, "")
                for connection in process.net_connections("tcp"):
                    if connection.status == psutil.CONN_LISTEN:
                        self.ports.add(connection.laddr.port)
        except psutil.Error:
            return  # it has just ended


def _same(key: tuple[int, float]) -> psutil.Process | None:
    try:
        process = psutil.Process(key[0])
        alive = process.create_time() == key[1] and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return None
    return process if alive else None
