"""A real coordinator that may open only so many files, as a service manager sets it, and strangers
who open connections to it without showing a key."""

from __future__ import annotations

import contextlib
import resource
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from server.coordinator.setup import create
from tests.waiting import HUNG, until

_START = "import sys; from launch.cli.main import main; sys.argv[0] = 'wardround'; main()"
_HOST = "127.0.0.1"
_ANSWER = 60.0
"""Seconds after which one call counts as hung, and the next is made."""


@contextlib.contextmanager
def descriptors_for_strangers(wanted: int) -> Iterator[int]:
    """Lets this process open `wanted` files where it may, and puts its limit back. Yields how many
    it may open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    raised = most if soft == resource.RLIM_INFINITY else max(soft, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
    try:
        yield raised
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Besieged:
    """`wardround coordinator start`, as a process that may open `descriptors` files. A context
    manager: in the end the process is gone."""

    def __init__(self, folder: Path, descriptors: int) -> None:
        with socket.socket() as probe:
            probe.bind((_HOST, 0))
            self.port: int = probe.getsockname()[1]
        config = create(folder / "coordinator", [_HOST, "localhost"], self.port, None, "T")
        self._log = folder / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START, "coordinator", "start", str(config.folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=lambda: resource.setrlimit(
                    resource.RLIMIT_NOFILE, (descriptors, descriptors)
                ),
            )

    def __enter__(self) -> Self:
        try:
            self._until_it_answers()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def _until_it_answers(self) -> None:
        until(lambda: self.answers() or self._process.poll() is not None, "the coordinator")
        if self._process.poll() is not None:
            raise RuntimeError(f"the coordinator did not start: {self._last_words()}")

    def _end(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(HUNG)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()

    def answers(self) -> bool:
        """Whether a whole TLS handshake and an HTTP answer come about."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            with (
                socket.create_connection((_HOST, self.port), _ANSWER) as raw,
                context.wrap_socket(raw, server_hostname="localhost") as line,
            ):
                line.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                return line.recv(12).startswith(b"HTTP/1.1")
        except OSError:
            return False

    def hold(self, count: int, seconds: float) -> int:
        """Opens up to `count` connections, sends nothing, and opens again what is closed; the most
        that were open at once. Ends early where the coordinator ends."""
        held: list[socket.socket] = []
        most, deadline = 0, time.monotonic() + seconds
        try:
            while time.monotonic() < deadline and self._process.poll() is None:
                while len(held) < count and time.monotonic() < deadline:
                    try:
                        held.append(socket.create_connection((_HOST, self.port), 2))
                    except OSError:
                        time.sleep(0.05)
                        break
                    held[-1].setblocking(False)
                most = max(most, len(held))
                time.sleep(0.3)
                held = [line for line in held if _is_open(line)]
        finally:
            for line in held:
                line.close()
        return most

    def afterwards(self) -> str:
        """What has become of the coordinator, once the strangers are gone."""
        try:
            self._process.wait(3)
        except subprocess.TimeoutExpired:
            pass
        else:
            return f"ended: {self._last_words()}"
        try:
            until(lambda: self.answers() or self._process.poll() is not None, "the coordinator")
        except TimeoutError:
            return "lives but does not answer"
        ended = self._process.poll() is not None
        return f"ended: {self._last_words()}" if ended else "lives and answers"

    def _last_words(self) -> str:
        return "".join(self._log.read_text(errors="replace").strip().splitlines()[-1:])[:120]


def _is_open(line: socket.socket) -> bool:
    """Whether the other side has left it open; closed here where not."""
    try:
        if line.recv(1) != b"":
            return True
    except BlockingIOError:
        return True
    except OSError:
        pass
    line.close()
    return False
