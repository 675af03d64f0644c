"""The program beside an exported bundle: written, and compared with what the bundle comes to."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from protocol.errors import Code, WardroundError, unwritable
from protocol.models.bundle import Bundle
from server.released_program import SUFFIX as SUFFIX
from server.released_program import program_of

_LONGEST = 1 << 33


def require_free(file: Path) -> None:
    """Raises WardroundError(USAGE) where a program lies beside `file` already."""
    if (beside := file.with_suffix(SUFFIX)).exists():
        raise unwritable(beside, FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)))


def write_program(bundle: Bundle, file: Path) -> Path | None:
    """Writes the program of the bundle that is in `file`; None where torch cannot export the model.

    Raises WardroundError(USAGE) where there is such a file already, or it cannot be written.
    """
    beside = file.with_suffix(SUFFIX)
    try:
        program = program_of(bundle)
    except WardroundError as error:
        if error.code is not Code.CONFIGURATION:
            raise
        return None
    try:
        with beside.open("xb") as target:
            target.write(program)
    except OSError as error:
        raise unwritable(beside, error) from None
    return beside


def require_program_of(bundle: Bundle, file: Path) -> None:
    """Makes the program again, and compares.

    Raises WardroundError: WEIGHTS where it is another's, or of another release of torch, NO_DATA
    where it cannot be read, and what `program_of` raises.
    """
    try:
        with file.open("rb") as source:
            found = source.read(_LONGEST)
    except OSError as error:
        raise WardroundError(
            Code.NO_DATA,
            f"The program {file} cannot be read: {error.strerror}.",
            remedy="Name a bundle beside which `wardround export` wrote one, or move it away.",
        ) from None
    if found != program_of(bundle):
        raise WardroundError(
            Code.WEIGHTS,
            f"{file} is not the program that this bundle comes to here.",
            remedy="Do not load it: it was changed, or made by another release of torch or of the "
            "task. `wardround export` makes one with what is installed here.",
        )
