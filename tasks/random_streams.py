"""PyTorch's global random streams, which a process has once for all the studies that it works on.

Two threads that set and draw from them at the same time would build other models than each alone.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_ONE_AT_A_TIME = threading.RLock()


@contextmanager
def own_streams(seed: int | None = None) -> Iterator[None]:
    """This thread alone uses the global streams inside the block, set to `seed` where one is given;
    they are restored afterwards."""
    with _ONE_AT_A_TIME, torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        yield
