"""SIGTERM and Ctrl-C as something to wait for, not something that breaks in."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held() -> Iterator[set[signal.Signals]]:
    """Keeps SIGTERM and SIGINT pending for `signal.sigwait`; lets them through again after.

    To be entered before any thread is started: threads inherit the mask, and a signal goes to
    whichever does not hold it. A handler could find a lock held by the code that it interrupted.
    """
    signals = {signal.SIGTERM, signal.SIGINT}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield signals
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
