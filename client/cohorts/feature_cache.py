"""Features of a site's table, made in parts where its pictures lie in a file.

Pictures that a task takes as they are stay where they are. What is made of them goes, where it is
much, into a file mapped to memory: one without a name, which ends with whoever reads it, or, for
features that take long to compute, one in the cache beside the pictures, for the owner only. Its
key covers the pictures, the task's source and its options; `wardround-site cache purge` removes it
with the pictures.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from client.data.cohort import finite
from client.data.stored_rows import Features, StoredRows, StoredTable, held
from client.log_events import event
from protocol.document import canonical
from protocol.durable_files import make_folder, writing
from protocol.errors import Code, WardroundError
from protocol.housekeeping import Housekeeping
from protocol.secret_files import refuse_shared
from tasks.base import Task

FOLDER = "pictures"
_IN_MEMORY = 64 << 20
"""Bytes of features up to which they are not written to disk."""


def features_of(state: Path, task: Task, table: StoredTable) -> Features:
    """`finite(task.features(table))`: (N, ...).

    Raises what the task raises, OSError for a disk that is full, and WardroundError: STATE for a
    cache open to other users, INTERNAL for features that are not one row a record.
    """
    if not any(isinstance(column, StoredRows) for column in table.values()):
        return finite(task.features(held(table)))
    folder = state / FOLDER
    if not task.keeps_features:
        return _picture_itself(task, table) or _stored(folder, task, table)
    path = folder / f"features-{_key(task, table)}.npy"
    if path.is_file():
        refuse_shared(path, "cache of features")
        cached = _read(path)
        if cached is not None and len(cached) == len(table[task.schema.images[0].name]):
            return StoredRows.all_of(cached)
    features = _stored(folder, task, table)
    with Housekeeping(_note).task("cache of features"):  # they are computed again next time
        make_folder(folder)
        with writing(path) as file:
            np.save(file, features.stored, allow_pickle=False)
    return features


def _parts(task: Task, table: StoredTable) -> Iterator[tuple[dict[str, Any], npt.NDArray[Any]]]:
    """Some records at a time, and their features as the task makes them."""
    widest = max(
        (column for column in table.values() if isinstance(column, StoredRows)),
        key=lambda column: column.dtype.itemsize * int(np.prod(column.shape[1:])),
    )
    for rows in widest.chunks():
        part = {name: column[rows] for name, column in table.items()}
        made = task.features(part)
        if made.shape[:1] != (rows.stop - rows.start,):
            raise WardroundError(
                Code.INTERNAL,
                f"Task {task.name} made {made.shape} features of {rows.stop - rows.start} rows.",
            )
        yield part, made


def _picture_itself(task: Task, table: StoredTable) -> StoredRows | None:
    """The pictures that the task takes as they are, if it does so with every record."""
    names = [name for name, column in table.items() if isinstance(column, StoredRows)]
    for part, made in _parts(task, table):
        names = [name for name in names if made is part[name]]
        if not names:
            return None
    column = table[names[0]]
    return column if isinstance(column, StoredRows) else None


def _stored(folder: Path, task: Task, table: StoredTable) -> StoredRows:
    """Few are held in memory, and many in a file without a name. They are written to it, not
    through the mapping: a full disk is then an error and not a signal."""
    parts = (np.ascontiguousarray(finite(made)) for _, made in _parts(task, table))
    first = next(parts)
    shape, dtype = (len(next(iter(table.values()))), *first.shape[1:]), first.dtype
    if int(np.prod(shape)) * dtype.itemsize <= _IN_MEMORY:
        return StoredRows.all_of(np.concatenate([first, *parts]))
    make_folder(folder)
    with tempfile.TemporaryFile(dir=folder) as file:
        for values in itertools.chain([first], parts):
            file.write(values.data)
        file.flush()
        return StoredRows.all_of(np.memmap(file, dtype, "r", shape=shape))


def _note(task: str, why: str) -> None:
    event(f"{task} not written", logging.WARNING, why=why)


def _key(task: Task, table: StoredTable) -> str:
    """Covers only the pictures of a table: only their features take long to compute."""
    digest = hashlib.sha256(canonical([task.name, task.source_digest(), task.options]))
    for image in task.schema.images:
        pictures = table[image.name]
        digest.update(repr(pictures.shape).encode())
        whole = pictures.chunks() if isinstance(pictures, StoredRows) else [slice(None)]
        for rows in whole:
            digest.update(np.ascontiguousarray(pictures[rows]).data)
    return digest.hexdigest()


def _read(path: Path) -> npt.NDArray[Any] | None:
    """None for a damaged file: it is written again."""
    try:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, EOFError):
        return None
