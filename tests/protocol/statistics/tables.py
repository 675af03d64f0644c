"""Noised tables of made-up patients, for tests of what is read off them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter

from protocol.statistics.noised_table import NoisedTable
from protocol.study.query import Axis

Floats = npt.NDArray[np.float64]
SEX: dict[str, Any] = {"kind": "categories", "column": "sex", "categories": ["0", "1"]}


def holds(column: str) -> dict[str, Any]:
    """Whether the column is 1."""
    return {
        "kind": "holds",
        "condition": {"kind": "compares", "column": column, "order": "=", "value": 1},
    }


def bins(column: str, *edges: float, outside: bool = False) -> dict[str, Any]:
    return {"kind": "bins", "column": column, "edges": list(edges), "outside": outside}


def laplace(epsilon: float, sites: float = 4, colluding: float = 1) -> tuple[Floats, Floats]:
    """Values of the noise of one cell and their chances: that of four sites of whom one may
    collude, as a discrete Laplace distribution of the same variance."""
    wanted = 2 * np.exp(-epsilon) / (1 - np.exp(-epsilon)) ** 2 * sites / (sites - colluding)
    ratio = (wanted + 1 - np.sqrt(2 * wanted + 1)) / wanted
    values = np.arange(-400.0, 401.0)
    chances = ratio ** np.abs(values)
    return values, chances / chances.sum()


def table(axes: list[dict[str, Any]], counts: Floats, epsilon: float | None = None) -> NoisedTable:
    """counts: without noise, which is not added here; epsilon: of the noise that it states."""
    made = TypeAdapter(tuple[Axis, ...]).validate_python(tuple(axes))
    values, chances = (np.zeros(1), np.ones(1)) if epsilon is None else laplace(epsilon)
    return NoisedTable(made, counts.astype(np.float64), values, chances, least_count=10)


def noised(of: NoisedTable, generator: np.random.Generator) -> NoisedTable:
    """The same with fresh noise on its counts."""
    counts = of.counts + of.noise(generator, of.counts.shape)
    return NoisedTable(of.axes, counts, of.values, of.chances, of.least_count)
