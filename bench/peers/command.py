"""A peer's command, run to its end."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence


def checked(what: str, command: Sequence[str], env: Mapping[str, str], limit: float) -> None:
    """what: its name in errors. limit: seconds. Raises RuntimeError, with the end of what it
    printed, where it is not there, fails or does not end."""
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
        )
    except OSError as error:
        raise RuntimeError(f"{what}: {command[0]}: {error.strerror}.") from None
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{what} did not end in {limit:g} s.") from None
    if done.returncode:
        raise RuntimeError(f"{what} failed:\n{done.stdout[-1500:]}{done.stderr[-1500:]}")
