"""Ends a command when its parent ends: `guard_process.py COMMAND...`, standard library only.

The parent holds the other end of our standard input. When it closes, however the parent ended
(Ctrl-C, SIGTERM, SIGKILL, a crash), the command's whole process group is ended with it, workers
and all. Nothing is ended by name.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from types import FrameType

PATIENCE = 3.0
"""Seconds between asking a group to end (SIGTERM) and ending it (SIGKILL)."""


def _gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def end_group(child: subprocess.Popen[bytes]) -> None:
    """Ends every process of the group that `child` leads. Returns when none is left, and after
    2 * PATIENCE seconds at the latest."""
    for request in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, request)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            child.poll()
            if _gone(child.pid):
                return
            time.sleep(0.02)


def main(command: Sequence[str]) -> int:
    """Runs `command`; its exit status, negative for a signal."""
    child = subprocess.Popen(list(command), stdin=subprocess.DEVNULL, start_new_session=True)

    def end(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit

    def watch() -> None:
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    try:
        signal.signal(signal.SIGTERM, end)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=watch, daemon=True).start()
        return child.wait()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        end_group(child)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
