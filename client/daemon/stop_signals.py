"""SIGTERM and Ctrl-C as signals to wait for, rather than interruptions."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held() -> Iterator[set[signal.Signals]]:
    """Blocks SIGTERM and SIGINT inside `with`, so that they wait for `signal.sigwait`.

    Enter it before any thread is started: threads inherit the mask, and a signal is delivered to
    any thread that does not block it. (A signal handler could need a lock that the interrupted code
    holds.)
    """
    signals = {signal.SIGTERM, signal.SIGINT}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield signals
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
