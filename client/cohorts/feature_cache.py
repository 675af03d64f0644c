"""A cache of features that take long to compute: files beside the pictures, for the owner only.

Its key covers the pictures, the task's source and its options. `wardround-site cache purge` removes
it with the pictures.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from client.log_events import event
from protocol.document import canonical
from protocol.durable_files import make_folder, writing
from protocol.housekeeping import Housekeeping
from protocol.secret_files import refuse_shared
from tasks.base import Task
from tasks.schema import Table

FOLDER = "pictures"


def features_of(state: Path, task: Task, table: Table) -> npt.NDArray[Any]:
    """`task.features(table)`, from the cache where it was computed before.

    Raises what the task raises, and WardroundError(STATE) for a cache open to other users.
    """
    if not task.keeps_features:
        return task.features(table)
    folder = state / FOLDER
    path = folder / f"features-{_key(task, table)}.npy"
    if path.is_file():
        refuse_shared(path, "cache of features")
        cached = _read(path)
        if cached is not None and len(cached) == len(table[task.schema.images[0].name]):
            return cached
    features = task.features(table)
    with Housekeeping(_note).task("cache of features"):  # they are computed again next time
        make_folder(folder)
        with writing(path) as file:
            np.save(file, features, allow_pickle=False)
    return features


def _note(task: str, why: str) -> None:
    event(f"{task} not written", logging.WARNING, why=why)


def _key(task: Task, table: Table) -> str:
    """Covers only the pictures of a table: only their features take long to compute."""
    digest = hashlib.sha256(canonical([task.name, task.source_digest(), task.options]))
    for image in task.schema.images:
        pictures = np.ascontiguousarray(table[image.name])
        digest.update(repr(pictures.shape).encode())
        digest.update(pictures.data)
    return digest.hexdigest()


def _read(path: Path) -> npt.NDArray[Any] | None:
    """None for a damaged file: it is written again."""
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError):
        return None
