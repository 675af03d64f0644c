"""With how many threads a study computes, beside others or alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from client.config.policy import Policy
from client.config.resource_limits import study_threads
from protocol.study.study import Study


class ThreadShares:
    """Divides `policy.threads` among the studies that compute.

    A study has its part of them (`study_threads`). A private one that begins while no other
    computes has all of them for that attempt: what is computed for a patient has the same bits with
    any number (`client/training/independence.py`). In mode none a sum in floats may differ in its
    last bit, so that there the number never depends on what else is computed.
    """

    def __init__(self, policy: Policy) -> None:
        self._all, self._part = policy.threads, study_threads(policy)
        self._computing, self._lock = 0, threading.Lock()

    @contextmanager
    def share(self, study: Study) -> Iterator[None]:
        """PyTorch computes, in the calling thread, with the study's share inside the block."""
        with self._lock:
            alone = self._computing == 0
            self._computing += 1
        torch.set_num_threads(self._all if alone and study.privacy.traits.private else self._part)
        try:
            yield
        finally:
            with self._lock:
                self._computing -= 1
