"""The self-check of a daemon that starts, in a process of its own.

It says in the log where this machine cannot keep what an epsilon claims, and refuses a policy that
the daemon could not serve. The numerical libraries that this takes end with the process: a daemon
that no study asks holds none of them (`client/daemon/lazy_site.py`).
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from typing import TYPE_CHECKING

from client.config.policy import Policy
from client.config.resource_limits import limit_memory
from client.log_events import event
from protocol.errors import Code, WardroundError
from tasks import registry

if TYPE_CHECKING:
    from client.training.devices.choice import Device
    from tasks.base import Task


@dataclass(frozen=True)
class Finding:
    """What the self-check of one task came to. error: why its studies will be refused. device:
    where they will be computed."""

    task: str
    seconds: float
    error: WardroundError | None = None
    device: str = "cpu"

    def log(self) -> None:
        if self.error is None:
            seconds = round(self.seconds, 1)
            event("self-check passed", task=self.task, seconds=seconds, device=self.device)
            return
        why = {"code": self.error.code.value, "why": self.error.message}
        why["remedy"] = self.error.remedy
        event("self-check failed", logging.WARNING, task=self.task, **why)


class Trial:
    """A self-check under way."""

    def __init__(self, process: int, line: Connection) -> None:
        self._process, self._line = process, line

    @classmethod
    def begin(cls, policy: Policy) -> Trial:
        """Forks; to be called while this process has no other thread."""
        ours, theirs = Pipe(duplex=False)
        process = os.fork()
        if process == 0:
            try:
                ours.close()
                theirs.send(tried(policy))
            finally:
                os._exit(0)
        theirs.close()
        return cls(process, ours)

    def end(self) -> None:
        """Waits for its end, and logs what it found.

        Raises WardroundError: UNKNOWN_TASK and CONFIGURATION for a policy that cannot be served.
        """
        try:
            found = self._line.recv()
        except EOFError:
            _, status = os.waitpid(self._process, 0)
            raise WardroundError(
                Code.CONFIGURATION,
                "The self-check's process was ended before it had an answer (status "
                f"{os.waitstatus_to_exitcode(status)}).",
                remedy="Mostly memory was short: give the service more, or allow fewer tasks.",
            ) from None
        os.waitpid(self._process, 0)
        self._line.close()
        if isinstance(found, WardroundError):
            raise found
        for finding in found:
            finding.log()


def tried(policy: Policy) -> list[Finding] | WardroundError:
    """Of each task that the policy allows; an error where the daemon cannot serve the policy."""
    import torch

    import client.training.bookkeeping  # noqa: F401 (loaded before memory is limited)
    from client.training.devices.choice import candidates

    torch.set_num_threads(policy.threads)
    try:
        tasks = [registry.load(task) for task in policy.tasks]
        devices = candidates(policy)
        limit_memory(policy)
    except WardroundError as error:
        return error
    # A query's task computes no model.
    return [check(task, devices) for task in tasks if task.schema.label]


def check(task: Task, devices: Sequence[Device]) -> Finding:
    """Whether studies of the task that claim an epsilon will be refused here, as `Site` checks
    again with each study's options. devices: those to try."""
    from client.training.self_check import self_check

    started = time.monotonic()
    try:
        passed = self_check(task, trains=True, in_floats=False, devices=devices)
    except WardroundError as error:
        return Finding(task.name, time.monotonic() - started, error)
    return Finding(task.name, time.monotonic() - started, device=str(passed.device))
