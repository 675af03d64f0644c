"""A harmonisation report as tables: for each column how far sites lie apart, and by what chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from protocol.statistics.drift import Floats
from protocol.statistics.drift_tables import LARGE, LEVEL
from protocol.statistics.harmonisation.between_sites import Between, between
from protocol.statistics.noised_table import TOO_FEW, NoisedTable
from protocol.statistics.results import AnalysisResult, Figure, ResultRow, ResultTable
from protocol.study.query import SITES_THAT, Differing

_COLUMNS = (
    "index between hospitals",
    "I2",
    "Q",
    "degrees of freedom",
    "p",
    "hospitals compared",
    *(f"hospitals that {said}" for said in SITES_THAT),
    "verdict",
)
_NOTES = (
    f"DIFFER: hospitals differ from one another by more than noise and chance (p below {LEVEL:g} "
    "over all columns of this query together). Look at how they record the column, unit and coding "
    "above all, before they train on it together: each hospital sees on a page of its own whether "
    "and where it is the one. cannot tell: noise and chance alone could make an index of "
    f"{LARGE:g}, so that silence means nothing; ask with more epsilon or in fewer columns.",
    "The index is the mean stability index (Siddiqi 2006) of a hospital against all: below .1 "
    "little differs, above .25 much. I2 (Higgins and Thompson 2002) is the part of Cochran's Q "
    "that neither noise nor chance explains; it grows with the number of patients, the index does "
    "not. Both intervals hold at least 95%; p-values, too, know of the noise.",
    "Columns are compared by their shares, missing values among them, in groups of cells that hold "
    "enough patients by what was released before.",
)


@dataclass(frozen=True)
class Seen:
    """One column of an opened sum. said: how many sites said each of `SITES_THAT`. sums: (2 + 3 G,)
    of their figures. cell: whose noise is that of one site's cell."""

    statistic: Differing
    said: tuple[int, ...]
    sums: Floats
    cell: NoisedTable


def harmonisation_tables(columns: Sequence[Seen], declared: Sequence[int]) -> AnalysisResult:
    """declared: patients of each site of the roster."""
    generator = np.random.default_rng(0)
    rows = []
    for one in columns:
        found = between(one.statistic, one.sums, declared, one.cell, generator)
        rows.append(_row(one, found, len(columns)))
    return AnalysisResult((ResultTable("Harmonisation", _COLUMNS, tuple(rows), "forest"),), _NOTES)


def _row(one: Seen, found: Between | None, tests: int) -> ResultRow:
    said = tuple(Figure(float(number)) for number in one.said)
    if found is None:
        return ResultRow(one.statistic.name, (TOO_FEW, *[""] * 5, *said, "cannot tell"))
    figures = (found.q, float(found.degrees), found.p, float(found.sites))
    measured = (Figure(*found.index), Figure(*found.explained))
    verdict = _verdict(found, tests)
    return ResultRow(one.statistic.name, (*measured, *map(Figure, figures), *said, verdict))


def _verdict(found: Between, tests: int) -> str:
    if found.p < LEVEL / tests:
        return "DIFFER"
    return "cannot tell" if found.limit > LARGE else "no sign of difference"
