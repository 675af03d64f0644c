"""Labels of a table's rows: numbers, or masks that may lie in a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from client.data.stored_rows import Features, StoredRows, StoredTable, held
from protocol.errors import Code, WardroundError
from tasks.base import Task


@dataclass(frozen=True, eq=False)
class LabelColumns:
    """The columns that a task's labels are made of, (N, ...), in memory or in a file; missing (N,)
    bool: rows without a label."""

    task: Task
    columns: Features
    missing: npt.NDArray[np.bool_]

    @staticmethod
    def of(task: Task, table: StoredTable) -> LabelColumns:
        """Raises WardroundError(MALFORMED_DATA) naming the first row whose label is none of the
        task's kind."""
        mask = table.get(task.schema.label) if task.schema.masked else None
        columns: Features = (
            mask if isinstance(mask, StoredRows) else task.schema.label_of(held(table))
        )
        missing, outcome = np.zeros(len(columns), dtype=np.bool_), task.outcome
        for rows in _parts(columns):
            bad, what = outcome.bad(part := columns[rows])
            if bad.any():
                raise malformed(
                    " and ".join(task.schema.label_columns), rows.start + int(np.argmax(bad)), what
                )
            missing[rows] = outcome.missing(outcome.labels_of(part))
        if isinstance(columns, StoredRows):
            missing |= ~columns.present
        return LabelColumns(task, columns, missing)

    def chosen(self, keep: npt.NDArray[np.bool_]) -> Features:
        """Labels of some rows, as a cohort holds them."""
        if isinstance(self.columns, StoredRows):
            return self.columns.chosen(keep)
        labels = self.task.outcome.labels_of(self.columns)[keep]
        return labels if labels.dtype == np.uint8 else labels.astype(np.float32)

    def doubts(self, keep: npt.NDArray[np.bool_]) -> list[str]:
        """What the site's own log should say of these rows: what every part of them says."""
        if not isinstance(self.columns, StoredRows):
            return self.task.outcome.doubts(self.columns[keep])
        chosen = self.columns.chosen(keep)
        said = [self.task.outcome.doubts(chosen[rows]) for rows in _parts(chosen)]
        return [doubt for doubt in said[0] if all(doubt in of for of in said)] if said else []

    def same(self, one: int, other: int) -> bool:
        """Whether two rows have the same label."""
        first, second = (self.columns[np.array([row])] for row in (one, other))
        outcome = self.task.outcome
        return bool(np.array_equal(outcome.labels_of(first), outcome.labels_of(second)))


def malformed(column: str, row: int, what: str) -> WardroundError:
    """row: counted from 0."""
    return WardroundError(
        Code.MALFORMED_DATA,
        f"Column {column}, row {row + 1} of the view: {what}.",
        remedy="Correct the source or the site's view.",
    )


def _parts(columns: Features) -> Iterator[slice]:
    return columns.chunks() if isinstance(columns, StoredRows) else iter([slice(0, len(columns))])
