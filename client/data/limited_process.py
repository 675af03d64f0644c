"""A function in a process of its own, within bounds of memory and time that the kernel keeps.

What a database engine makes of a hospital's query or file cannot be bounded from inside: one value
may take gigabytes, one step minutes. So the work is done by a process that holds nothing of the
caller's memory, such as a key, and that the kernel ends. It is a fork, made in milliseconds, of a
template that has imported what the work needs and does nothing else.
"""

from __future__ import annotations

import atexit
import os
import pickle
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from functools import cache
from importlib import import_module
from multiprocessing.connection import Connection, Pipe
from time import monotonic
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
_START = "from client.data.limited_process import serve; serve()"
_PRELOADED = ("client.data.view_reader", "client.data.sources.attrition", "pandas")
"""pandas, for DuckDB imports it with the first parameter of a statement."""
_STARTING = 120.0
"""Seconds until the fork must report that it is there; the time of its work begins then."""
_ONE_AT_A_TIME = threading.Lock()


class ProcessEndedError(Exception):
    """The kernel ended the process. late: for its time, else for its memory or a fault."""

    def __init__(self, *, late: bool) -> None:
        super().__init__()
        self.late = late


def limited(
    work: Callable[P, R], memory: int, seconds: float, *given: P.args, **named: P.kwargs
) -> R:
    """work(*given, **named), done by another process; all of it must be picklable.

    memory: bytes of address space that it may add to that of its start (RLIMIT_AS). seconds: of
    wall clock. Its environment, folder and module path are the caller's; what it writes to its
    standard streams is lost, for libraries in C quote data there.

    Raises ProcessEndedError; what `work` raises is raised here.
    """
    with closing(_line()) as line:
        started = monotonic()
        try:
            if not line.poll(_STARTING):
                raise ProcessEndedError(late=False)
            line.recv()
            started = monotonic()
            line.send((os.environ.copy(), os.getcwd(), sys.path, memory, seconds))
            line.send((work, given, named))
            done, answer = line.recv()
        except (EOFError, OSError):
            raise ProcessEndedError(late=monotonic() - started >= seconds) from None
    if done:
        return answer  # type: ignore[no-any-return]  # what `work` returns
    raise answer


def _line() -> Connection:
    """A connection to a new fork of the template, which is started where there is none."""
    ours, theirs = Pipe()
    with closing(theirs), _ONE_AT_A_TIME:
        for _ in range(2):
            with suppress(OSError):  # the template was ended from outside: a new one follows
                socket.send_fds(_template(), [b"\0"], [theirs.fileno()])
                return ours
            _template.cache_clear()
    raise ProcessEndedError(late=False)


@cache
def _template() -> socket.socket:
    """Starts the template, which ends when this process does."""
    ours, theirs = socket.socketpair()
    path = os.pathsep.join(os.path.abspath(folder) for folder in sys.path)
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", _START],
        env=os.environ | {"PYTHONPATH": path, "MALLOC_ARENA_MAX": "2"},
        stdin=theirs.fileno(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # the caller hears Ctrl-C, and ends us
    )
    theirs.close()

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def serve() -> None:
    """The template's life: a fork for each connection, until the caller ends."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold patients' data
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    for module in _PRELOADED:
        import_module(module)
    with socket.socket(fileno=0) as calls:
        while True:
            message, descriptors, _, _ = socket.recv_fds(calls, 1, 1)
            if not message:
                return
            if not os.fork():
                calls.close()
                try:
                    _work(Connection(descriptors[0]))
                finally:
                    os._exit(0)
            os.close(descriptors[0])


def _work(line: Connection) -> None:
    """The life of one fork: one piece of work, and no longer than its caller waits for it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    line.send(None)
    environment, folder, path, memory, seconds = line.recv()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[:] = path
    work, given, named = line.recv()
    threading.Thread(target=_end_with, args=(line,), daemon=True).start()
    _limit(memory, seconds)
    answer: tuple[bool, Any]
    try:
        answer = True, work(*given, **named)
        message = pickle.dumps(answer, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        message = pickle.dumps((False, error))
    line.send_bytes(message)


def _limit(memory: int, seconds: float) -> None:
    """The alarm's signal ends the process, whatever it is at."""
    with open("/proc/self/statm", encoding="ascii") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    cap = now + memory
    resource.setrlimit(resource.RLIMIT_AS, (cap if hard < 0 else min(cap, hard), hard))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def _end_with(line: Connection) -> None:
    """Nothing more is sent: what can be read is the caller's end."""
    with suppress(EOFError, OSError):
        line.recv_bytes()
    os._exit(1)
