"""Processes that work on files, so that a file which hangs or crashes costs that file only.

Decoders in C meet whatever a scanner, a network or an attacker wrote. Each worker takes one file
after another; for a file that takes too long, or ends its worker, the caller's substitute is the
answer, and the worker is replaced.
"""

from __future__ import annotations

import resource
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import islice
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

from client.process_template import template

J = TypeVar("J")
R = TypeVar("R")

_AHEAD = 16
"""Jobs that a worker holds at once, so that it never waits for the next."""
_STARTING = 120.0
"""Seconds until a new worker must report that it is there; the time of its job begins then."""


class _Worker(Generic[J]):
    def __init__(self, work: Callable[..., Any], given: tuple[Any, ...], memory: int) -> None:
        fork = template(_module(work)).fork(_serve, work, given, memory)
        self.line, self.end = fork.line, fork.end
        self.jobs: list[J] = []
        self.deadline = 0.0
        self.fresh = True

    def give(self, jobs: list[J], seconds: float) -> None:
        if not jobs:
            return
        if not self.jobs:
            self.expect(seconds)
        self.jobs += jobs
        with suppress(OSError):  # it has just died: waiting for its answer will show that
            self.line.send(jobs)

    def expect(self, seconds: float) -> None:
        self.deadline = time.monotonic() + (_STARTING if self.fresh else seconds)


def isolated(
    work: Callable[..., R],
    given: tuple[Any, ...],
    jobs: Iterable[J],
    *,
    workers: int,
    seconds: float,
    slow: R,
    crashed: R,
    memory: int = 3 << 30,
) -> Iterator[tuple[J, R]]:
    """(job, work(job, *given)) for every job, in the order in which they are done.

    work: a function of a module, or a part of one, that raises nothing. seconds: limit for one job.
    memory: bytes of data that a worker may hold. `slow` and `crashed` answer for a job whose worker
    was ended.

    Raises OSError where no process starts.
    """
    queue = deque(jobs)
    crew: list[_Worker[J]] = []
    try:
        while True:
            for worker in crew:
                if len(worker.jobs) <= _AHEAD // 2:
                    count = min(_AHEAD - len(worker.jobs), len(queue))
                    worker.give([queue.popleft() for _ in range(count)], seconds)
            while len(crew) < workers and queue:
                crew.append(_Worker(work, given, memory))
                crew[-1].give([queue.popleft()], seconds)
            if not any(worker.jobs for worker in crew):
                return
            yield from _answers(crew, queue, seconds, slow, crashed)
    finally:
        for worker in crew:
            worker.end()


def batches(items: Iterable[J], size: int) -> Iterator[list[J]]:
    """Lists of `size` items, the last one shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _answers(
    crew: list[_Worker[J]], queue: deque[J], seconds: float, slow: R, crashed: R
) -> Iterator[tuple[J, R]]:
    busy = {worker.line: worker for worker in crew if worker.jobs}
    nearest = min(worker.deadline for worker in busy.values())
    ready = wait(list(busy), timeout=max(0.0, nearest - time.monotonic()))
    for line in ready:
        worker = busy[line]  # type: ignore[index]  # only pipes were waited for
        try:
            answer = worker.line.recv()
        except (EOFError, OSError):
            yield _replace(worker, crew, queue), crashed
            continue
        starting, worker.fresh = worker.fresh, False
        worker.expect(seconds)
        if not starting:
            yield worker.jobs.pop(0), answer
    for worker in busy.values():
        late = worker.jobs and worker.deadline < time.monotonic()
        # An answer that lies there is taken: who takes the answers may have been slow, not the job.
        if worker in crew and late and not worker.line.poll():
            yield _replace(worker, crew, queue), slow


def _replace(worker: _Worker[J], crew: list[_Worker[J]], queue: deque[J]) -> J:
    """Ends a worker and returns its jobs to the queue, except the job it was at: the result."""
    crew.remove(worker)
    worker.end()
    queue.extendleft(worker.jobs[:0:-1])
    return worker.jobs[0]


def _module(work: Callable[..., Any]) -> str:
    """What a worker has to have imported."""
    return str((work.func if isinstance(work, partial) else work).__module__)


def _serve(line: Connection, work: Callable[..., Any], given: tuple[Any, ...], memory: int) -> None:
    """A worker's life. It ends when the line is closed at the other end."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (memory, hard))
    with suppress(EOFError, OSError):
        line.send(None)  # it is there
        while True:
            for job in line.recv():
                line.send(work(job, *given))
