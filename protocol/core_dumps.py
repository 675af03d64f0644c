"""No core dumps: an image of a daemon's memory would hold patients' data and keys."""

from __future__ import annotations

import ctypes
import resource
import sys

_PR_SET_DUMPABLE = 4


def forbid_core_dumps() -> None:
    """Neither this process nor those that it starts leave a core file. On Linux this process also
    gives its memory to no other process of the same user (prctl(2), PR_SET_DUMPABLE), which holds
    where a core would go to a program and not to a file (core(5)) as well.

    The service files say the same by `LimitCORE=0`; this is for daemons that are started by hand.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
