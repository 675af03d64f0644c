"""Real programs that tests need beside Python: packages of Debian, installed where this user may.

Several test processes may want one at the same time, and apt takes one at a time.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
_LOCK = Path(tempfile.gettempdir()) / "wardround-tests-apt.lock"


def program(name: str, package: str) -> Path:
    """Where a command of a package is. Fails the test where it is not and cannot be installed."""
    if (found := shutil.which(name, path=_PATH)) is None:
        install(package)
        found = shutil.which(name, path=_PATH)
    if found is None:
        pytest.fail(
            f"This test needs {name} of the Debian package {package}, which is not here and could "
            f"not be installed. Run: apt-get install {package}"
        )
    return Path(found)


def install(package: str) -> None:
    """Tries to; whoever asks looks whether it is there."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    with _LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for arguments in (["update"], ["install", "-y", "--no-install-recommends", package]):
            subprocess.run(
                ["apt-get", "-q", *arguments],
                env=env,
                timeout=280,
                capture_output=True,
                check=False,
            )
