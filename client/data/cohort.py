"""Builds a site's cohort from its rows: features, labels and, for each patient, a part.

Every choice about a patient (which rows count, which part he is in) depends on that patient's rows
alone, so that adding or removing one patient changes nothing about another: the unit of privacy
stays the patient.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal, assert_never

import numpy as np
import numpy.typing as npt

from client.data.labels import LabelColumns, malformed
from client.data.quality import unit_doubts
from client.data.stored_rows import Features, StoredRows, StoredTable, held
from client.data.subgroups import levels_of
from protocol.errors import Code, WardroundError
from protocol.study.study import Evaluation
from tasks.base import Task
from tasks.schema import DAY, PATIENT, SPLIT, Table

Part = Literal["train", "evaluation"]
_KEY = os.urandom(32)
"""Of the hashes of patients' names; it dies with the process."""


@dataclass(frozen=True, eq=False)
class Cohort:
    """The patients of one site that a task selects. Holds no identifier.

    features (N, ...) float32 finite, or uint8 of pictures, in memory or in a file; labels (N,)
    float32 of the task's kind of outcome, or (N, rows, columns) uint8 of masks, likewise; patient
    (N,) int64 into the P patients; identity (P, 2)
    uint64, no two the same, from which a patient's random choices are drawn (`identities`); u (P,)
    float64 in [0, 1); in_training (N,) bool: the row's part. `train` and `evaluation` (P,) bool:
    who has a row in that part (disjoint, unless the split is a column).
    `notes` is for the site alone: what was set aside and what looks like a wrong unit.
    `public` (N,) float64: the task's public score of each row, where it knows one.
    `levels` (N, partitions) int64: the place of the row's level in each of the study's partitions
    (`client.data.subgroups`); None where it has none.
    """

    features: Features
    labels: Features
    patient: npt.NDArray[np.int64]
    identity: npt.NDArray[np.uint64]
    u: npt.NDArray[np.float64]
    in_training: npt.NDArray[np.bool_]
    train: npt.NDArray[np.bool_]
    evaluation: npt.NDArray[np.bool_]
    notes: tuple[str, ...] = ()
    public: npt.NDArray[np.float64] | None = None
    levels: npt.NDArray[np.int64] | None = None
    _by_patient: dict[str, tuple[npt.NDArray[np.int64], ...]] = field(init=False, repr=False)

    @property
    def patients(self) -> int:
        """Number of patients P."""
        return len(self.u)

    def members(self, part: Part) -> npt.NDArray[np.int64]:
        """The patients of a part, as indices into the P patients."""
        mask = self.train if part == "train" else self.evaluation
        return np.asarray(np.flatnonzero(mask), dtype=np.int64)

    def draw(
        self, patients: npt.NDArray[np.int64], part: Part, uniform: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.int64]:
        """(B,) patients of the part and (B,) numbers uniform in [0, 1), multiples of 2^-53 -> (B,)
        rows: one record of each, uniformly among the patient's rows in that part."""
        order, start, count = self._by_patient[part]
        picks = np.floor(uniform * count[patients]).astype(np.int64)
        return np.asarray(order[start[patients] + picks], dtype=np.int64)

    def first(self, patients: npt.NDArray[np.int64], part: Part) -> npt.NDArray[np.int64]:
        """(B,) patients of the part -> (B,) rows: the first record of each, which depends on no
        other patient."""
        order, start, _ = self._by_patient[part]
        return np.asarray(order[start[patients]], dtype=np.int64)

    def __post_init__(self) -> None:
        rows = {}
        for part, mask in (("train", self.in_training), ("evaluation", ~self.in_training)):
            chosen = np.flatnonzero(mask)
            order = chosen[np.argsort(self.patient[chosen], kind="stable")]
            count = np.bincount(self.patient[chosen], minlength=self.patients)
            rows[part] = (order, np.cumsum(count) - count, count)
        object.__setattr__(self, "_by_patient", rows)
        for array in (self.features, self.labels, self.patient, self.u, self.in_training):
            if not isinstance(array, StoredRows):
                array.flags.writeable = False

    @staticmethod
    def build(
        task: Task,
        table: StoredTable,
        split: Callable[[str], float],
        evaluation: Evaluation,
        features_of: Callable[[Task, StoredTable], Features] | None = None,
    ) -> Cohort:
        """Checks the table, makes features, and splits by patient.

        `split`: patient identifier -> u in [0, 1), fixed for the site's lifetime; patients with
        u < 1 - evaluation.fraction train. With evaluation.split "column" the table's own column
        `split` decides for each row; with "date", whether its column `day` is before
        evaluation.since.

        `features_of`: makes `finite(task.features(table))` where pictures lie in a file.

        Set aside with a note: rows without a label, repeated rows (a join that fans out), and
        rows of one patient with equal features and different labels.
        Raises WardroundError: NO_DATA without rows, MALFORMED_DATA naming column and row.
        """
        rows, held_columns = _rows(task, table), held(table)
        if features_of is None:
            features: Features = finite(task.features(held_columns))
        else:
            features = features_of(task, table)
        if features.shape[:1] != (rows,):
            raise WardroundError(
                Code.INTERNAL, f"Task {task.name} made {features.shape} features of {rows} rows."
            )
        named = identifiers(held_columns[PATIENT])
        labels = LabelColumns.of(task, table)
        column = _split_of(held_columns, evaluation)
        keep, notes = _select(features, labels, named, column)
        if not keep.any():
            raise WardroundError(
                Code.NO_DATA,
                "No row of the view has a label.",
                remedy=f"Check {_label_of(task)} in the site's view.",
            )
        notes += labels.doubts(keep)
        names, patient = np.unique(named[keep].astype(str), return_inverse=True)
        u = np.array([split(str(name)) for name in names], dtype=np.float64)
        if column is None:
            in_training = (u < 1 - evaluation.fraction)[patient]
        else:
            in_training = column[keep] == "train"
        train, evaluated = (
            np.bincount(patient[mask], minlength=len(u)) > 0 for mask in (in_training, ~in_training)
        )
        return Cohort(
            features.chosen(keep) if isinstance(features, StoredRows) else features[keep],
            labels.chosen(keep),
            patient.astype(np.int64),
            identities(names),
            u,
            in_training,
            train,
            evaluated,
            notes=(*notes, *_doubts(task, held_columns)),
            public=None if (known := task.public_score(held_columns)) is None else known[keep],
            levels=levels_of(evaluation.subgroups, task.schema, held_columns, rows)[keep],
        )


def finite(features: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Pictures as they are, (N, ...) uint8; anything else as float32, 0 for what is no number."""
    if features.dtype == np.uint8:
        return features
    numbers = np.nan_to_num(features, nan=0.0, posinf=0.0, neginf=0.0)
    return np.asarray(numbers, dtype=np.float32)


def _rows(task: Task, table: StoredTable) -> int:
    """Number of rows, after the check that all columns are there and equally long."""
    if missing := [name for name in task.schema.names if name not in table]:
        raise WardroundError(
            Code.MALFORMED_DATA,
            f"The view lacks the column {missing[0]}.",
            remedy=f"Task {task.name} reads: {', '.join(task.schema.names)}.",
        )
    lengths = {len(table[name]) for name in task.schema.names}
    if len(lengths) > 1:
        raise WardroundError(Code.MALFORMED_DATA, "The view's columns differ in length.")
    if lengths == {0}:
        raise WardroundError(
            Code.NO_DATA,
            "The view selects no rows.",
            remedy="Check its conditions and the files it reads.",
        )
    return lengths.pop()


def _label_of(task: Task) -> str:
    """Its label's column in words, or columns."""
    names = task.schema.label_columns
    return f"the column {names[0]}" if len(names) == 1 else f"the columns {', '.join(names)}"


def _refuse(bad: npt.NDArray[np.bool_], column: str, what: str) -> None:
    """Raises for the first bad row."""
    if bad.any():
        raise malformed(column, int(np.argmax(bad)), what)


def identities(names: Iterable[str]) -> npt.NDArray[np.uint64]:
    """P names -> (P, 2): a keyed hash of each (BLAKE2b, RFC 7693), the same in this process."""
    hashes = (hashlib.blake2b(str(name).encode(), digest_size=16, key=_KEY) for name in names)
    joined = b"".join(one.digest() for one in hashes)
    return np.frombuffer(joined, dtype=np.uint64).reshape(-1, 2)


def identifiers(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(N,) -> (N,) str; 7.0 and 7 are one patient. Raises where a row names none."""
    texts = np.full(len(values), None, dtype=object)
    for row, value in enumerate(values):
        if value is not None and value == value and str(value).strip():
            whole = isinstance(value, float) and value.is_integer()
            texts[row] = str(int(value)) if whole else str(value).strip()
    _refuse(np.array([text is None for text in texts]), PATIENT, "no patient is named")
    return texts


def _split_of(table: Table, evaluation: Evaluation) -> npt.NDArray[Any] | None:
    """(N,) of "train" and "evaluation"; None where the site's split of patients decides."""
    match evaluation.split:
        case "patients":
            return None
        case "column":
            column = _split_by(table, SPLIT, 'the values "train" and "evaluation"')
            bad = ~np.isin(column, ("train", "evaluation"))
            _refuse(bad, SPLIT, 'neither "train" nor "evaluation"')
            return column
        case "date":
            days = _split_by(table, DAY, "the day of each record, such as 2027-03-31")
            _refuse(np.array([not _is_day(day) for day in days]), DAY, "no day such as 2027-03-31")
            return np.where(days.astype(str) < evaluation.since, "train", "evaluation")
    assert_never(evaluation.split)


def _is_day(value: object) -> bool:
    try:
        return date.fromisoformat(str(value)).isoformat() == value
    except ValueError:
        return False


def _split_by(table: Table, name: str, values: str) -> npt.NDArray[Any]:
    if name not in table:
        raise WardroundError(
            Code.MALFORMED_DATA,
            f"The study splits by the column {name}, which the view lacks.",
            remedy=f"Add it with {values}.",
        )
    return table[name]


def _select(
    features: Features,
    labels: LabelColumns,
    identifiers: npt.NDArray[Any],
    column: npt.NDArray[Any] | None,
) -> tuple[npt.NDArray[np.bool_], list[str]]:
    """(N,) mask of the rows that count, and notes on the others. Decides patient by patient, and
    reads the features of those alone who have several rows."""
    seen: dict[tuple[Any, ...], int] = {}
    unlabelled, repeated, contradicted = labels.missing, 0, 0
    keep = ~unlabelled
    several = Counter(identifiers[keep])
    for row in np.flatnonzero(keep):
        if several[identifiers[row]] == 1:
            continue
        values = hashlib.sha256(features[row].tobytes()).digest()
        key = (identifiers[row], values, None if column is None else column[row])
        first = seen.setdefault(key, int(row))
        if first == row:
            continue
        keep[row] = False
        if labels.same(first, int(row)):
            repeated += 1
        else:
            keep[first] = False
            contradicted += 1
    notes = []
    if unlabelled.any():
        notes.append(f"{int(unlabelled.sum())} rows without a label were set aside.")
    if repeated:
        notes.append(f"{repeated} repeated rows were set aside: does a join in the view fan out?")
    if contradicted:
        notes.append(f"{contradicted} rows contradict another row of the same patient: set aside.")
    return keep, notes


def _doubts(task: Task, table: Table) -> list[str]:
    """Columns that look as if they came in another unit, or not at all."""
    numbers = [column for column in task.schema.columns if column.kind == "number"]
    return [doubt for column in numbers for doubt in unit_doubts(column, table[column.name])]
