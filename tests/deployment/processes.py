"""A command with all the processes and listening ports that came of it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from tests.waiting import HUNG, until


class Command:
    """Runs in a process group of its own, as a terminal's foreground job; output in two files."""

    def __init__(
        self, words: Sequence[str | Path], folder: Path, env: Mapping[str, str] | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.out, self.err = folder / "stdout", folder / "stderr"
        self.seen: dict[tuple[int, float], str] = {}
        """(process, when it was created) -> its command line: everything that ever came of it."""
        self.ports: set[int] = set()
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self._process = subprocess.Popen(
                [str(word) for word in words],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=folder,
                env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
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
        """Which of the processes that came of it are still there."""
        return [process for process in map(_same, self.seen) if process is not None]

    def until_none_is_left(self) -> None:
        until(lambda: not self.left(), "all its processes have ended")

    def taken(self) -> list[int]:
        """Which of the ports that it listened on cannot be bound."""
        return [port for port in sorted(self.ports) if not _free(port)]

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


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
