"""What an analysis came to: tables of figures with 95% intervals, and what to know about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import TypeAdapter

Plot = Literal["none", "curves", "forest"]


@dataclass(frozen=True)
class Figure:
    """A number and its 95% interval; without one (a p-value) both ends are None, and an end that
    lies beyond what was observed (a median that is not reached) is None alone."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class ResultRow:
    """cells: one for each column, a figure or why there is none. at: its place on the axis of
    curves, in the time's unit."""

    label: str
    cells: tuple[Figure | str, ...]
    at: float | None = None


@dataclass(frozen=True)
class ResultTable:
    """plot: each column as a curve over the rows; the first column's intervals one below the other
    (a forest plot); or figures only."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[ResultRow, ...]
    plot: Plot = "none"


@dataclass(frozen=True)
class AnalysisResult:
    """notes: diagnoses with their remedies, and what intervals are of, one sentence or two each."""

    tables: tuple[ResultTable, ...]
    notes: tuple[str, ...] = ()

    @staticmethod
    def read(plain: Mapping[str, Any]) -> AnalysisResult:
        """Reads what `dataclasses.asdict` made. Raises ValueError."""
        return TypeAdapter(AnalysisResult).validate_python(plain)
