"""Where tests write: memory where there is enough of it, for thousands of them wait for a disk.

Every ledger, audit log and journal is synchronised with its disk at each step. That it is, tests
see by what is called; none can pull the plug. What passed leaves nothing behind (pyproject.toml).
"""

from __future__ import annotations

import os
import shutil

MEMORY = "/dev/shm"  # noqa: S108 (a test run has a folder of its own in it, of its user only)
_ROOM = 4 << 30
"""Bytes that must be free; a run takes less."""


def in_memory() -> bool:
    """Whether MEMORY is there, has room, and may hold programs, as containers often forbid."""
    try:
        programs = not os.statvfs(MEMORY).f_flag & os.ST_NOEXEC
        return programs and shutil.disk_usage(MEMORY).free >= _ROOM
    except OSError:
        return False
