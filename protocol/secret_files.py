"""Files that survive a power cut and that nobody else on the machine can read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from protocol.errors import Code, WardroundError


def refuse_shared(path: Path, what: str, code: Code = Code.STATE) -> None:
    """Raises WardroundError(code) where others than the owner may read or write `path`, where it
    belongs to another user, or where it is not there."""
    try:
        status = path.stat()
    except OSError as error:
        raise WardroundError(
            code, f"The {what} {path} cannot be read: {error.strerror}.", remedy=_MISSING
        ) from None
    if stat.S_IMODE(status.st_mode) & 0o077:
        mode = "700" if stat.S_ISDIR(status.st_mode) else "600"
        raise WardroundError(
            code,
            f"The {what} {path} is open to other users.",
            remedy=f"Run `chmod {mode} {path}`, and ask who could have read it.",
        )
    if status.st_uid != os.geteuid():
        raise WardroundError(
            code,
            f"The {what} {path} belongs to another user.",
            remedy=f"Run as its owner, or `chown` it to uid {os.geteuid()}.",
        )


_MISSING = "Check the path in site.yaml; `wardround-site init` makes what is missing."
