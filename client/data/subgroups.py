"""In which level of each partition a record is; the patient's first record of the evaluation part
is the one that counts.

What a record's value is follows from that record alone. A value that is none of the study's levels
is in the level "missing", as one that is not there: levels are the study's, never the cohort's.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, assert_never

import numpy as np
import numpy.typing as npt

from protocol.errors import Code, WardroundError
from protocol.study.subgroups import Bands, Categories, Hospitals, Partition
from tasks.schema import Schema, Table, floats, texts


def levels_of(
    partitions: Collection[Partition], schema: Schema, table: Table, rows: int
) -> npt.NDArray[np.int64]:
    """(rows, partitions) the place of each record's level; 0 in a partition of hospitals, where the
    site's own class decides.

    A number that the task's schema knows as "not measured" is missing. Raises
    WardroundError(MALFORMED_DATA) naming a column that the view lacks, or a row that is no number.
    """
    columns = [_level(partition, schema, table, rows) for partition in partitions]
    return np.stack(columns, axis=1) if columns else np.empty((rows, 0), dtype=np.int64)


def _level(partition: Partition, schema: Schema, table: Table, rows: int) -> npt.NDArray[np.int64]:
    match partition:
        case Hospitals():
            return np.zeros(rows, dtype=np.int64)
        case Categories():
            words = texts(_column(table, partition.column))
            place = np.full(rows, len(partition.values), dtype=np.int64)
            for index, value in enumerate(partition.values):
                place[words == value] = index
            return place
        case Bands():
            numbers = _numbers(schema, partition.column, _column(table, partition.column))
            place = np.searchsorted(np.array(partition.cuts), numbers, side="right")
            return np.where(np.isnan(numbers), len(partition.cuts) + 1, place).astype(np.int64)
    assert_never(partition)


def _column(table: Table, name: str) -> npt.NDArray[Any]:
    if name not in table:
        raise WardroundError(
            Code.MALFORMED_DATA,
            f"The study evaluates by the column {name}, which the view lacks.",
            remedy="Add it to the site's view; NULL stands for a missing value.",
        )
    return table[name]


def _numbers(schema: Schema, name: str, values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    known = next((c for c in schema.columns if c.name == name and c.kind == "number"), None)
    if known is not None:
        return known.numbers(values)
    numbers = floats(values, name)
    return np.where(np.isfinite(numbers), numbers, np.nan)
