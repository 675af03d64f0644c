"""At most one coordinator per folder: a lock that is held exactly as long as its process lives."""

from __future__ import annotations

import fcntl
import os
import time

from protocol.errors import Code, WardroundError
from server.coordinator.config import CoordinatorConfig

_NAME = ".lock"


def acquire(config: CoordinatorConfig) -> int:
    """A descriptor; closing it releases the folder. Raises WardroundError(STATE)."""
    try:
        lock = os.open(config.state / _NAME, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise WardroundError(
            Code.STATE,
            f"{config.state} cannot be written: {error.strerror}.",
            remedy="Check free space, the mount and permissions, then start again.",
        ) from None
    for _ in range(10):  # `is_running` holds it for an instant
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)
        else:
            return lock
    os.close(lock)
    raise WardroundError(
        Code.STATE,
        f"A coordinator runs on {config.folder} already.",
        remedy="`wardround coordinator status` shows it; end it first.",
    )


def is_running(config: CoordinatorConfig) -> bool:
    """Whether a coordinator runs on this folder."""
    try:
        lock = os.open(config.state / _NAME, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False
