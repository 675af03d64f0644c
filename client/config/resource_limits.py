"""Applies the policy's caps on threads and memory to this process."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path

from client.config.policy import Policy
from protocol.errors import Code, WardroundError

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_MIN_WORKING_MEMORY = 128 * 2**20
"""Bytes that a small study needs beyond the program itself."""


def limit_threads(policy: Policy) -> None:
    """Limits the numerical libraries' threads; to be called before they are imported."""
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(policy.threads)))


def limit_memory(policy: Policy, status: Callable[[], str] | None = None) -> None:
    """Caps this process's own (anonymous) memory at `policy.memory`, by RLIMIT_DATA.

    That limit counts reserved memory, and torch's libraries reserve hundreds of MiB that they never
    touch; these do not count against the policy. An allocation beyond the cap fails, the current
    message is refused, and the daemon continues.

    status: the text of /proc/self/status. Raises WardroundError(CONFIGURATION) where the policy
    leaves no room beside the program itself.
    """
    text = status() if status else Path("/proc/self/status").read_text(encoding="ascii")
    sizes = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    reserved, used = (int(sizes[key].split()[0]) * 1024 for key in ("VmData", "RssAnon"))
    if used + _MIN_WORKING_MEMORY > policy.memory:
        needed = (used + _MIN_WORKING_MEMORY) / 2**30
        raise WardroundError(
            Code.CONFIGURATION,
            f"policy.memory is {policy.memory / 2**30:.2g} GiB; the daemon itself needs "
            f"{needed:.2g} GiB.",
            remedy="Raise policy.memory in site.yaml.",
        )
    cap = reserved - used + policy.memory
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        cap = min(cap, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (cap, hard))


def lift_memory_limit() -> None:
    """Takes `limit_memory` back, for loading libraries: they reserve what they never touch."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def gradient_memory(policy: Policy) -> int:
    """Returns bytes for one study's per-patient gradients. All studies that compute at once have a
    quarter of the memory, since clipping copies them."""
    return policy.memory // 4 // policy.studies_at_once


def study_threads(policy: Policy) -> int:
    """Returns the threads that are one study's part of `policy.threads`, at least one. The same
    whether others compute or not; who is alone may have more
    (`client/daemon/answers/thread_shares.py`)."""
    return max(1, policy.threads // policy.studies_at_once)


def database_memory(policy: Policy) -> int:
    """Returns the bytes that DuckDB may hold while a cohort is read."""
    return policy.memory // 4
