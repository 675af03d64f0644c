"""A function in a process of its own, within bounds of memory and time that the kernel keeps.

What a database engine makes of a hospital's query or file cannot be bounded from inside: one value
may take gigabytes, one step minutes. So the work is done by a process that holds nothing of the
caller's memory, such as a key, and that the kernel ends (`process_template`).
"""

from __future__ import annotations

import pickle
import resource
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from time import monotonic
from typing import Any, ParamSpec, TypeVar

from client.process_template import template

P = ParamSpec("P")
R = TypeVar("R")
_PRELOADED = ("client.data.view_reader", "client.data.sources.attrition", "pandas")
"""pandas, for DuckDB imports it with the first parameter of a statement."""
_STARTING = 120.0
"""Seconds until the fork must report that it is there; the time of its work begins then."""


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
    wall clock. Its surroundings are those of `Template.fork`.

    Raises ProcessEndedError; what `work` raises is raised here.
    """
    started = monotonic()
    try:
        fork = template(*_PRELOADED).fork(_life, memory, seconds, work, given, named)
    except OSError:
        raise ProcessEndedError(late=False) from None
    try:
        if not fork.line.poll(_STARTING):
            raise ProcessEndedError(late=False)
        started = fork.line.recv()
        done, answer = fork.line.recv()
    except (EOFError, OSError):
        raise ProcessEndedError(late=monotonic() - started >= seconds) from None
    finally:
        fork.end()
    if done:
        return answer  # type: ignore[no-any-return]  # what `work` returns
    raise answer


def _life(
    line: Connection,
    memory: int,
    seconds: float,
    work: Callable[..., Any],
    given: tuple[Any, ...],
    named: dict[str, Any],
) -> None:
    """One piece of work. Says first at what time it begins, on the clock that all processes share:
    it may have ended before the caller looks at its own."""
    line.send(monotonic())
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
