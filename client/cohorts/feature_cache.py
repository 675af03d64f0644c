"""Features that take long to compute, computed once: kept beside the pictures, for the owner only.

The key is what they were made of and by: the digest of the pictures, of the task's source, and its
options. `wardround-site cache purge` removes them with the pictures.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from protocol.document import canonical
from protocol.durable_files import make_folder, writing
from protocol.errors import Code, WardroundError
from protocol.secret_files import refuse_shared
from tasks.base import Task
from tasks.schema import Table

FOLDER = "pictures"


def features_of(state: Path, task: Task, table: Table) -> npt.NDArray[Any]:
    """`task.features(table)`, from the state folder where they were computed before.

    Raises what the task raises, and WardroundError(STATE) for a cache open to other users.
    """
    if not task.keeps_features:
        return task.features(table)
    folder = state / FOLDER
    path = folder / f"features-{_key(task, table)}.npy"
    if path.is_file():
        refuse_shared(path, "cache of features")
        found = _read(path)
        if found is not None and len(found) == len(table[task.schema.images[0].name]):
            return found
    made = task.features(table)
    try:
        make_folder(folder)
        with writing(path) as file:
            np.save(file, made, allow_pickle=False)
    except OSError as error:
        raise WardroundError(
            Code.STATE,
            f"{path} cannot be written: {error.strerror}.",
            remedy="Make room on the disk.",
        ) from None
    return made


def _key(task: Task, table: Table) -> str:
    """Of what `Task.features` sees of pictures: they alone make features that take long."""
    digest = hashlib.sha256(canonical([task.name, task.source_digest(), task.options]))
    for image in task.schema.images:
        pictures = np.ascontiguousarray(table[image.name])
        digest.update(repr(pictures.shape).encode())
        digest.update(pictures.data)
    return digest.hexdigest()


def _read(path: Path) -> npt.NDArray[Any] | None:
    """None for a file that is damaged: it is made anew."""
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError):
        return None
