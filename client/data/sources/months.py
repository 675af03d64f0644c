"""In which months the records of a site lie: gaps, and tables that end before the others do.

A month without any row counts as a gap only where it cannot well be chance: the year before has a
median of `USUAL` patients a month, so that none in a month has a probability of some exp(-10).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

USUAL = 10
_LOOK_BACK = 12
_LATE = 6
"""Months before today after which an end is told."""


@dataclass(frozen=True)
class Gap:
    """Months without rows, both inclusive, as YYYY-MM. at_end: while other tables go on."""

    table: str
    first: str
    last: str
    at_end: bool

    def __str__(self) -> str:
        if self.at_end:
            return f"{self.table} ends before {self.first}, other tables only in {self.last}"
        span = self.first if self.first == self.last else f"{self.first} to {self.last}"
        return f"{self.table} has no rows in {span}"


def gaps(tables: Mapping[str, Mapping[int, int]]) -> tuple[Gap, ...]:
    """Table -> month (12 * year + month - 1) -> patients; to the gaps, those at an end first."""
    end = max((max(rows) for rows in tables.values() if rows), default=0)
    found = [gap for name, rows in tables.items() for gap in _of(name, rows, end)]
    return tuple(sorted(found, key=lambda gap: (not gap.at_end, gap.table, gap.first)))


def late(tables: Mapping[str, Mapping[int, int]], today: int) -> str | None:
    """The month in which all records end, where that is long before today's."""
    end = max((max(rows) for rows in tables.values() if rows), default=today)
    return written(end) if today - end >= _LATE else None


def written(month: int) -> str:
    """YYYY-MM."""
    return f"{month // 12:04}-{month % 12 + 1:02}"


def _of(table: str, rows: Mapping[int, int], end: int) -> list[Gap]:
    found = []
    for before, after in pairwise([*sorted(rows), end + 1]):
        year = [rows.get(month, 0) for month in range(before - _LOOK_BACK + 1, before + 1)]
        if after - before > 1 and median(year) >= USUAL:
            last = after - 1
            found.append(Gap(table, written(before + 1), written(last), last == end))
    return found
