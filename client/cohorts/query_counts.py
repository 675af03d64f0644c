"""Counts a site's patients for a query: the integers that it adds to the sum, before noise.

A patient counts once in each statistic, by the first of his records, in the order of the site's
view, that meets the conditions (and, for a mean, has a value). Which record that is depends on his
own records alone, so one patient more changes each statistic by one patient at most.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

import numpy as np
import numpy.typing as npt

from client.cohorts.site_comparison import said
from client.data.cohort import identifiers, identities
from protocol.errors import Code, WardroundError
from protocol.privacy import query_noise
from protocol.privacy.randomness import PatientDraws
from protocol.study.condition import (
    AllOf,
    AnyOf,
    Comparison,
    Condition,
    IsMissing,
    IsOneOf,
    Not,
    Order,
)
from protocol.study.query import (
    Axis,
    Bins,
    Categories,
    Cells,
    ConditionAxis,
    Differing,
    Mean,
    Query,
)
from protocol.study.study import Study
from protocol.study.vector_layout import Sections
from protocol.vectors import Vector
from tasks.query_schema import categories, columns
from tasks.schema import PATIENT, Column, Schema, Table

Mask = npt.NDArray[np.bool_]
Cell = npt.NDArray[np.int64]
_ORDERS: dict[Order, np.ufunc] = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "=": np.equal,
    "!=": np.not_equal,
}


@dataclass(frozen=True)
class ThreeValuedMask:
    """A condition on N records, (N,) bool each: where neither mask is true it is unknown."""

    true: Mask
    false: Mask


class QueryRecords:
    """A site's records of a task, as a query reads them. Holds no identifier."""

    def __init__(self, table: Table, schema: Schema) -> None:
        """Raises WardroundError(MALFORMED_DATA) where a row names no patient, NO_DATA where there
        is no row."""
        self._columns: Mapping[str, Column] = columns(schema)
        names = identifiers(_column(table, PATIENT)).astype(str)
        if not len(names):
            raise WardroundError(
                Code.NO_DATA,
                "The view selects no rows.",
                remedy="Check its conditions and the files it reads.",
            )
        different, self._patient = np.unique(names, return_inverse=True)
        self._identity = identities(different)
        self._digest = [hashlib.sha256(name.encode()).digest() for name in different.tolist()]
        self._table = table
        self._read: dict[str, npt.NDArray[np.float64]] = {}

    @property
    def patients(self) -> int:
        """How many patients have a record."""
        return int(self._patient.max()) + 1

    def identities(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
        """(n,) rows -> (n, 2): of their patients, for what is drawn at random for each."""
        return self._identity[self._patient[rows]]

    def row_set(self, rows: npt.NDArray[np.int64]) -> str:
        """Which patients have one of these rows, SHA-256 over all: the same on every day."""
        present = np.unique(self._patient[rows])
        return hashlib.sha256(b"".join(sorted(self._digest[one] for one in present))).hexdigest()

    def values(self, name: str) -> npt.NDArray[np.float64]:
        """(N,) numbers, or for a category column its place among the categories; NaN missing.

        Raises WardroundError(MALFORMED_DATA) for what is no number, none of the categories, or not
        there.
        """
        if name not in self._read:
            column, cells = self._columns[name], _column(self._table, name)
            match column.kind:
                case "number":
                    self._read[name] = column.numbers(cells)
                case "category":
                    self._read[name] = column.places(cells)
                case never:
                    assert_never(never)
        return self._read[name]

    def truth(self, condition: Condition | None) -> ThreeValuedMask:
        """Where a condition is true and where false, record by record; without one, all true."""
        match condition:
            case None:
                everybody = np.ones(len(self._patient), bool)
                return ThreeValuedMask(everybody, ~everybody)
            case IsMissing():
                missing = np.isnan(self.values(condition.column))
                return ThreeValuedMask(missing, ~missing)
            case Comparison() | IsOneOf():
                values = self.values(condition.column)
                known, met = ~np.isnan(values), self._met(condition, values)
                return ThreeValuedMask(known & met, known & ~met)
            case Not():
                inner = self.truth(condition.of)
                return ThreeValuedMask(inner.false, inner.true)
            case AllOf():
                return self._joined(condition.of, np.logical_and, np.logical_or)
            case AnyOf():
                return self._joined(condition.of, np.logical_or, np.logical_and)
        assert_never(condition)

    def _joined(
        self, parts: Iterable[Condition], true: np.ufunc, false: np.ufunc
    ) -> ThreeValuedMask:
        truths = [self.truth(part) for part in parts]
        return ThreeValuedMask(
            true.reduce([t.true for t in truths]), false.reduce([t.false for t in truths])
        )

    def _met(self, leaf: Comparison | IsOneOf, values: npt.NDArray[np.float64]) -> Mask:
        match leaf:
            case IsOneOf():
                known = categories(self._columns[leaf.column])
                wanted = [known.index(category) for category in leaf.categories]
                return np.isin(values, wanted)
            case Comparison():
                with np.errstate(invalid="ignore"):
                    return np.asarray(_ORDERS[leaf.order](values, leaf.value), dtype=np.bool_)
        assert_never(leaf)

    def first(self, selected: Mask) -> npt.NDArray[np.int64]:
        """(n,) rows: of each patient with a selected record the first one."""
        rows = np.flatnonzero(selected)
        _, place = np.unique(self._patient[rows], return_index=True)
        return np.asarray(rows[place], dtype=np.int64)


def _column(table: Table, name: str) -> npt.NDArray[Any]:
    if name not in table:
        raise WardroundError(
            Code.MALFORMED_DATA,
            f"The view lacks the column {name}.",
            remedy="Add it to the site's view; NULL stands for a missing value.",
        )
    return table[name]


def count_patients(query: Query, records: QueryRecords, scale: int) -> npt.NDArray[np.int64]:
    """(cells,) integers: each patient adds `scale` to one cell of each statistic, or in all to the
    two of a mean; nothing where he has no record that meets the conditions. Where sites are
    compared: the cells of each histogram, which are no part of the sum."""
    cohort = records.truth(query.where).true
    parts = []
    for statistic in query.statistics:
        selected = cohort & records.truth(statistic.where).true
        match statistic:
            case Mean():
                parts.append(_placed(statistic, records, selected, scale))
            case Cells():
                cell = _cell(statistic.axes, records, records.first(selected))
                parts.append(np.bincount(cell, minlength=statistic.cells) * scale)
            case Differing():
                cell = _cell((statistic.axis,), records, records.first(selected))
                parts.append(np.bincount(cell, minlength=len(statistic.axis.labels)) * scale)
            case never:
                assert_never(never)
    return np.concatenate(parts).astype(np.int64)


def _placed(statistic: Mean, records: QueryRecords, selected: Mask, scale: int) -> Cell:
    """(2,) integers: how far up the range the patients' values are, and how far down."""
    values = records.values(statistic.column)
    rows = records.first(selected & ~np.isnan(values))
    width = statistic.high - statistic.low
    placed = np.clip((values[rows] - statistic.low) / width, 0.0, 1.0) * scale
    whole = np.floor(placed)  # rounded up with the probability that makes it unbiased
    up = PatientDraws().uniform(records.identities(rows)) <= placed - whole
    first = int((whole + up).sum())
    return np.array([first, len(rows) * scale - first], dtype=np.int64)


def _cell(axes: Sequence[Axis], records: QueryRecords, rows: npt.NDArray[np.int64]) -> Cell:
    """(n,) rows -> (n,) places in the product of the axes."""
    place = np.zeros(len(rows), dtype=np.int64)
    for axis in axes:
        place = place * len(axis.labels) + place_along(axis, records, rows)
    return place


def place_along(axis: Axis, records: QueryRecords, rows: npt.NDArray[np.int64]) -> Cell:
    """(n,) rows -> (n,) places among the labels of one axis."""
    match axis:
        case Bins():
            return _binned(axis, records.values(axis.column)[rows])
        case Categories():
            values = records.values(axis.column)[rows]
            return np.where(np.isnan(values), len(axis.categories), values).astype(np.int64)
        case ConditionAxis():
            truth = records.truth(axis.condition)
            return np.where(truth.true, 0, np.where(truth.false, 1, 2))[rows].astype(np.int64)
    assert_never(axis)


def _binned(axis: Bins, values: npt.NDArray[np.float64]) -> Cell:
    edges = np.array(axis.edges)
    bins = len(edges) - 1
    place = np.searchsorted(edges, values, side="right") - 1
    place = np.where(values == edges[-1], bins - 1, place)
    place = place + 1 if axis.outside else np.clip(place, 0, bins - 1)
    return np.asarray(np.where(np.isnan(values), len(axis.labels) - 1, place), dtype=np.int64)


@dataclass(frozen=True)
class QueryContributor:
    """One site's records, for one query: a `Contributor` (client.training.contribution) that
    needs no model."""

    study: Study
    records: QueryRecords

    @staticmethod
    def of(study: Study, schema: Schema, table: Table) -> QueryContributor:
        """Reads every column that the query names, so that what is malformed in them is found
        before anything is debited. Raises WardroundError(MALFORMED_DATA)."""
        query, _ = query_noise.query_and_event(study)
        records = QueryRecords(table, schema)
        for name in query.columns:
            records.values(name)
        return QueryContributor(study, records)

    def contribution(
        self, sections: Sections, weights: Vector, round_: int
    ) -> npt.NDArray[np.int64]:
        """(cells,) integers. The ledger has been debited for them before."""
        query, _ = query_noise.query_and_event(self.study)
        counts = count_patients(query, self.records, self.study.evaluation.scale)
        return said(self.study, counts) if query.compares_sites else counts

    def noise(self, sections: Sections, participants: int) -> npt.NDArray[np.int64]:
        """This site's share for |U| participants, (cells,) integers, fresh each time."""
        return query_noise.share(self.study, participants)
