"""A queue of jobs that one thread delivers in order, so that whoever adds a job never waits.

A job whose server is away is tried again until it succeeds; one that is refused is recorded and
dropped, and the next one follows.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from server.tracking.parameters import hide_credentials

_log = logging.getLogger(__name__)


class ServerAwayError(Exception):
    """The server cannot be reached or fails for now; trying again may help."""


@dataclass(frozen=True)
class Job:
    """Something to deliver, and its name for people. `run` is idempotent: it raises
    ServerAwayError to be called again; anything else that it raises is a refusal."""

    what: str
    run: Callable[[], None]


class DeliveryQueue:
    """One queue, one thread. The thread dies with the process: a hanging call holds nothing up."""

    def __init__(self, name: str, pause: float = 1.0) -> None:
        """`pause`: seconds between two tries of the same job."""
        self._pause = pause
        self._jobs: deque[Job] = deque()
        self._refused: list[str] = []
        self._changed = threading.Condition()
        self._stopped = False
        self._trouble = ""
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def put(self, job: Job, *, first: bool = False) -> None:
        """Returns at once. first: before all that waits, behind what is being delivered."""
        with self._changed:
            waiting = len(self._jobs)
            self._jobs.insert(min(1, waiting) if first else waiting, job)
            self._changed.notify_all()

    def wait(self, timeout: float) -> bool:
        """Whether everything handed in was delivered or refused within `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._jobs, timeout)

    def wait_or_trouble(self, timeout: float) -> str:
        """Like `wait`, but returns at the first trouble, in words; empty where there is none."""
        with self._changed:
            self._changed.wait_for(lambda: not self._jobs or bool(self._trouble), timeout)
            return self._trouble or ("no answer" if self._jobs else "")

    @property
    def missing(self) -> tuple[str, ...]:
        """What is not delivered: refused, or still queued."""
        with self._changed:
            return tuple(dict.fromkeys([*self._refused, *(job.what for job in self._jobs)]))

    def stop(self) -> None:
        """Starts no further job."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            try:
                job.run()
            except ServerAwayError as error:
                self._note(job, f"away: {error}", "tracking.waits")
                with self._changed:
                    self._changed.wait_for(lambda: self._stopped, self._pause)
                continue
            except Exception as error:
                said = hide_credentials(next(iter(str(error).splitlines()), ""))[:200]
                self._note(job, f"{type(error).__name__}: {said}", "tracking.refused")
                with self._changed:
                    self._refused.append(job.what)
            else:
                with self._changed:
                    self._trouble = ""
            with self._changed:
                self._jobs.popleft()
                self._changed.notify_all()

    def _next(self) -> Job | None:
        with self._changed:
            self._changed.wait_for(lambda: bool(self._jobs) or self._stopped)
            return None if self._stopped else self._jobs[0]

    def _note(self, job: Job, trouble: str, event: str) -> None:
        with self._changed:
            if trouble != self._trouble:
                _log.warning("%s what=%s why=%s", event, job.what, trouble)
            self._trouble = trouble
            self._changed.notify_all()
