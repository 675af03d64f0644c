"""Drift as tables: for each histogram its stability index, test and verdict, and its shares."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from protocol.statistics.drift import (
    Comparison,
    Floats,
    OneShare,
    compare,
    compare_commonest,
)
from protocol.statistics.noised_table import TOO_FEW, NoisedTable
from protocol.statistics.results import AnalysisResult, Figure, ResultRow, ResultTable
from protocol.study.analysis import Drift
from protocol.study.query import Reference

MODERATE, LARGE = 0.1, 0.25
"""Of the stability index, by custom (Siddiqi 2006): below the first nothing much has changed, above
the second much has."""
COARSE = 0.1
"""Of the share of a column's commonest value: where noise and chance alone could move it by more,
silence means nothing."""
LEVEL = 0.01
"""Of all tests of one study together, by Bonferroni: how often an alarm or a warning is false."""
Verdict = Literal["ALARM", "warning", "no sign of drift", "cannot tell"]
_COLUMNS = (
    "stability index",
    "without drift below (95%)",
    "chi-square",
    "degrees of freedom",
    "p",
    "patients now",
    "patients then",
    "verdict",
)
_NOTES = (
    f"ALARM: the shares have changed (p below {LEVEL:g} over all tests of this query together) and "
    f"the stability index is {LARGE:g} or more. Ask the model's owner and, where the model is in "
    "clinical use, stop it until the cause is known. warning: they have changed, by less; look for "
    "the cause before the next period. cannot tell: noise alone could make an index of "
    f"{LARGE:g}, so that silence means nothing; take a longer period, fewer histograms or more "
    "epsilon.",
    "p-values, limits and intervals are of patients and of the noise of both histograms together. "
    "Neighbouring cells are joined where the reference holds few patients. The index is without "
    "what chance and noise add to it on average. Of a column that has hardly anything but one "
    "value, the share of this value is compared.",
    "This is monitoring after release (Regulation (EU) 2024/1689: articles 26(5) of deployers and "
    "72 of providers). It sees a change of patients, of measurement or of coding. It does not see "
    "whether predictions come true: evaluate the model for that.",
)


def drift_tables(
    analysis: Drift, names: Sequence[str], tables: Sequence[NoisedTable]
) -> AnalysisResult:
    """names: of the tables, each compared with the reference at its place."""
    generator = np.random.default_rng(0)
    rows, shares = [], []
    for name, table, reference in zip(names, tables, analysis.references, strict=True):
        then, variances = np.array(reference.counts), np.array(reference.variances)
        found = compare(table, then, variances, generator)
        if found is not None:
            rows.append(_row(name, found, verdict(found, len(tables))))
        elif (one := compare_commonest(table, then, variances, generator)) is not None:
            rows.append(_row_of_share(name, one, share_verdict(one, len(tables))))
        else:
            rows.append(ResultRow(name, (TOO_FEW, *[""] * (len(_COLUMNS) - 2), "cannot tell")))
            continue
        shares.append(_shares(name, table, reference))
    summary = ResultTable("Drift", _COLUMNS, tuple(rows), "forest")
    return AnalysisResult((summary, *shares), _NOTES)


def verdict(found: Comparison, tests: int) -> Verdict:
    """tests: how many histograms the query compares."""
    if found.p < LEVEL / tests:
        return "ALARM" if found.index >= LARGE else "warning"
    return "cannot tell" if found.limit > LARGE else "no sign of drift"


def share_verdict(found: OneShare, tests: int) -> Verdict:
    """Of a column that has hardly anything but one value."""
    if found.p < LEVEL / tests:
        return "ALARM" if found.index >= LARGE else "warning"
    return "cannot tell" if found.limit > COARSE else "no sign of drift"


def _row_of_share(name: str, found: OneShare, said: Verdict) -> ResultRow:
    index, figures = Figure(found.index), (1.0, found.p, found.patients, found.reference)
    alone = "commonest value alone"
    return ResultRow(name, (index, alone, "", *map(Figure, figures), said))


def _row(name: str, found: Comparison, said: Verdict) -> ResultRow:
    figures = (found.chi_square, float(found.degrees), found.p, found.patients, found.reference)
    index = Figure(found.index, found.low, found.high)
    return ResultRow(name, (index, Figure(found.limit), *map(Figure, figures), said))


def _shares(name: str, table: NoisedTable, reference: Reference) -> ResultTable:
    then, variances = np.array(reference.counts), np.array(reference.variances)
    noise = np.full(len(then), table.variance)
    columns = zip(_with_ends(table.counts, noise), _with_ends(then, variances), strict=True)
    rows = tuple(map(ResultRow, table.axes[0].labels, columns))
    return ResultTable(f"Shares of {name}", ("now", "then"), rows)


def _with_ends(counts: Floats, variances: Floats) -> Iterator[Figure]:
    """Shares, with the noise's intervals."""
    total = max(float(counts.sum()), 1.0)
    for count, variance in zip(counts, variances, strict=True):
        within = 1.96 * float(np.sqrt(variance)) / total
        share = float(count) / total
        yield Figure(share, max(0.0, share - within), min(1.0, max(0.0, share + within)))
