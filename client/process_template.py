"""Processes that start in milliseconds: forks of a template that has imported what they need.

A template is an interpreter of its own, which holds nothing of its caller's memory, such as a key,
and does nothing but fork and end its forks. It ends with its caller, and all its forks with it; one
that was idle for long ends too, and the next fork starts another.
"""

from __future__ import annotations

import atexit
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from multiprocessing.connection import Connection, Pipe
from typing import Any

_START = "import sys; from client.process_template import serve; serve(*sys.argv[1:])"
_STARTING = 120.0
"""Seconds until a template must have imported its modules and forked."""
_IDLE = 900.0
"""Seconds after which a template without forks ends."""
_ENDING = 5.0
"""Seconds until a template must have ended by itself."""
_LONGEST = 64
"""Bytes of a message between a template and its caller."""
_FORK = b"fork"


@dataclass(frozen=True, eq=False)
class Fork:
    """A process, and the line to it. Nobody waits for it: its answers, or the line's end, say how
    it does."""

    line: Connection
    end: Callable[[], None]
    """Closes the line, and kills the process where it still lives."""


class Template:
    """Forks for several threads. modules: names of what a fork finds imported. idle: seconds."""

    def __init__(self, modules: tuple[str, ...], idle: float = _IDLE) -> None:
        self._given = (str(idle), *modules)
        self._one_at_a_time = threading.Lock()
        self._calls: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.close)

    def fork(self, life: Callable[..., None], *given: Any) -> Fork:
        """life(line, *given) in a new process, which ends with it; of modules, and picklable.

        Its environment, folder and module path are the caller's; what it writes to its standard
        streams is lost, for libraries in C quote data there. Raises OSError where none starts.
        """
        ours, theirs = Pipe()
        with closing(theirs), self._one_at_a_time:
            try:
                number = self._asked_for(theirs)
            except OSError:  # it was ended from outside, or for idleness: another follows
                self.close()
                number = self._asked_for(theirs)
        with suppress(OSError):  # it has just died: waiting for its answer will show that
            ours.send((os.environ.copy(), os.getcwd(), sys.path))
            ours.send((life, given))

        def end() -> None:
            ours.close()
            with self._one_at_a_time, suppress(OSError):
                if self._calls is not None:
                    self._calls.send(number)

        return Fork(ours, end)

    def close(self) -> None:
        """Ends it and its forks."""
        if self._calls is not None and self._process is not None:
            self._calls.close()
            try:
                self._process.wait(_ENDING)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._calls = self._process = None

    def _asked_for(self, theirs: Connection) -> bytes:
        """A new fork's process number. Raises OSError."""
        if self._calls is None:
            self._calls = self._start()
        socket.send_fds(self._calls, [_FORK], [theirs.fileno()])
        if not (number := self._calls.recv(_LONGEST)):
            raise ConnectionResetError
        return number

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        path = os.pathsep.join(os.path.abspath(folder) for folder in sys.path)
        with closing(theirs):
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _START, *self._given],
                env=os.environ | {"PYTHONPATH": path, "MALLOC_ARENA_MAX": "2"},
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # the caller hears Ctrl-C, and ends us
            )
        ours.settimeout(_STARTING)
        return ours


@cache
def template(*modules: str) -> Template:
    """The one of this process that has imported these modules."""
    return Template(modules)


def serve(idle: str, *modules: str) -> None:
    """A template's life. idle: seconds."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold patients' data
    for module in modules:
        import_module(module)
    alive = set[int]()
    with socket.socket(fileno=0) as calls:
        calls.settimeout(float(idle))
        while message := _message(calls, alive):
            asked, descriptors = message
            if asked != _FORK:
                _kill({int(asked)} & alive)
                continue
            if not (number := os.fork()):
                calls.close()
                try:
                    _live(Connection(descriptors[0]))
                finally:
                    os._exit(0)
            alive.add(number)
            os.close(descriptors[0])
            calls.send(str(number).encode())
    _kill(alive)


def _message(calls: socket.socket, alive: set[int]) -> tuple[bytes, list[int]] | None:
    """None once the caller has ended, or has been silent for long while no fork lives."""
    while True:
        try:
            message, descriptors, _, _ = socket.recv_fds(calls, _LONGEST, 1)
        except TimeoutError:
            if _reaped(alive):
                continue
            return None
        _reaped(alive)
        return (message, descriptors) if message else None


def _live(line: Connection) -> None:
    environment, folder, path = line.recv()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[:] = path
    life, given = line.recv()
    life(line, *given)


def _reaped(alive: set[int]) -> set[int]:
    """Those that still live. A number is another process's only once it was reaped here."""
    for number in tuple(alive):
        if os.waitpid(number, os.WNOHANG)[0]:
            alive.remove(number)
    return alive


def _kill(numbers: set[int]) -> None:
    for number in numbers:
        os.kill(number, signal.SIGKILL)
