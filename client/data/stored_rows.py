"""Rows of an array that stay where they are stored, such as in a file mapped to memory.

A cohort of pictures may be larger than a hospital's memory. What is mapped from a file is the
operating system's to hold or to drop: only rows that are asked for are copied.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.schema import Table

CHUNK = 32 << 20
"""Bytes of rows that are held at once where all are gone through."""


@dataclass(frozen=True, eq=False)
class StoredRows:
    """stored: (S, ...), of which row n of the (N, ...) rows is stored[places[n]]; zeros where
    places[n] is -1. With places (N, most) a row has several, (N, most, ...). Indexed as an array
    is, along the first axis, and then a copy."""

    stored: npt.NDArray[Any]
    places: npt.NDArray[np.int64]

    @staticmethod
    def all_of(stored: npt.NDArray[Any]) -> StoredRows:
        """Every row, in order."""
        return StoredRows(stored, np.arange(len(stored)))

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.places.shape, *self.stored.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.stored.dtype

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """(N,) whether a row, or a part of it, is stored anywhere."""
        return np.asarray((self.places >= 0).any(axis=tuple(range(1, self.places.ndim))))

    def __len__(self) -> int:
        return len(self.places)

    def chosen(self, rows: npt.NDArray[Any]) -> StoredRows:
        """Some rows, by a mask or by numbers, without a copy of what is stored."""
        return StoredRows(self.stored, self.places[rows])

    def read(self, rows: Any, out: npt.NDArray[Any]) -> None:
        """Copies rows into (n, ...) of the same type."""
        places = self.places[rows]
        absent = places < 0
        if absent.all():
            out[:] = 0
            return
        np.take(np.asarray(self.stored), np.maximum(places, 0), axis=0, out=out, mode="clip")
        out[absent] = 0

    def __getitem__(self, rows: Any) -> npt.NDArray[Any]:
        places = self.places[rows]
        if places.ndim < self.places.ndim:
            return np.asarray(self[np.array([rows])][0])
        out = np.empty((*places.shape, *self.stored.shape[1:]), dtype=self.dtype)
        self.read(rows, out)
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)

    def chunks(self) -> Iterator[slice]:
        """Slices of rows that take CHUNK bytes at most, or are one row."""
        each = max(1, self.dtype.itemsize * int(np.prod(self.shape[1:])))
        step = max(1, CHUNK // each)
        for start in range(0, len(self), step):
            yield slice(start, min(start + step, len(self)))


Features = npt.NDArray[Any] | StoredRows
StoredTable = Mapping[str, Features]
"""A table whose pictures may lie in a file."""


def in_memory(table: StoredTable) -> Table:
    """A copy of every column that is stored elsewhere."""
    return {name: np.asarray(column) for name, column in table.items()}


def held(table: StoredTable) -> Table:
    """The columns that are in memory."""
    return {name: column for name, column in table.items() if not isinstance(column, StoredRows)}


def read_rows(features: Features, rows: Any, out: npt.NDArray[Any]) -> None:
    """Copies rows of either kind into (n, ...) of the same type."""
    if isinstance(features, StoredRows):
        features.read(rows, out)
    else:
        np.take(features, rows, axis=0, out=out, mode="clip")
