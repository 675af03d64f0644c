"""The baseline table of a paper: patients, means, quartiles, shares and missing values by group.

All figures of a variable are read off one noised table of its bins or categories, by group. A mean
or deviation takes each patient for the middle of his bin. Intervals (95%) are of the noise, wider
by what the bins leave open: the mean by the mean half-width of the bins that patients are in, the
deviation by its root mean square. Standardised differences: Austin 2009 for numbers, Yang and
Dalton 2012 for categories; of more than two groups the mean over all pairs, as in R's `tableone`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from protocol.metrics.query_answers import binned_quantile
from protocol.outcomes.estimates import project
from protocol.statistics.noised_table import TOO_FEW, NoisedTable
from protocol.statistics.results import AnalysisResult, Figure, ResultRow, ResultTable
from protocol.study.analysis import TableOne
from protocol.study.query import Bins

Floats = npt.NDArray[np.float64]
REPLICATES = 500
_QUARTILES = {"lower quartile": 0.25, "median": 0.5, "upper quartile": 0.75}


@dataclass(frozen=True)
class Variable:
    """One variable by column of the table, all patients first. counts: (1 + G, B + 1), missing
    last; noise: (R, 1 + G, B + 1) draws of theirs. enough: (1 + G,) whether figures are shown."""

    table: NoisedTable
    counts: Floats
    noise: Floats
    enough: tuple[bool, ...]

    @staticmethod
    def of(table: NoisedTable, grouped: bool, generator: np.random.Generator) -> Variable:
        def by_column(cells: Floats) -> Floats:
            if not grouped:
                return cells[..., None, :]
            return np.concatenate([cells.sum(axis=-2, keepdims=True), cells[..., :-1, :]], axis=-2)

        drawn = table.noise(generator, (REPLICATES, *table.counts.shape))
        counts = by_column(table.counts)
        added = [table.counts.size, *([counts.shape[1]] * (len(counts) - 1))]
        known = zip(counts[:, :-1].sum(axis=1), added, strict=True)
        enough = tuple(table.enough(float(number), cells) for number, cells in known)
        return Variable(table, counts, by_column(drawn), enough)

    def rows(self) -> Iterator[ResultRow]:
        """The variable's own row, with the standardised difference, and one for each figure."""
        axis = self.table.axes[-1]
        name, blank = axis.column, ("",) * len(self.counts)
        yield ResultRow(name, (*blank, *self._difference()))
        if isinstance(axis, Bins):
            yield self._row(f"{name}, mean", [self._mean(axis, at) for at in self._columns])
            yield self._row(f"{name}, SD", [self._deviation(axis, at) for at in self._columns])
            for label, quantile in _QUARTILES.items():
                found = (
                    binned_quantile(axis, self.counts[at, :-1], self.noise[:, at, :-1], quantile)
                    for at in self._columns
                )
                figures = [Figure(of.value, of.low, of.high) for of in found]
                yield self._row(f"{name}, {label}", figures)
        else:
            for place, label in enumerate(axis.labels[:-1]):
                share = [self._share(slice(0, -1), place, at) for at in self._columns]
                yield self._row(f"{name} = {label}, %", share)
        missing = axis.labels[-1]
        share = [self._share(slice(None), len(axis.labels) - 1, at) for at in self._columns]
        yield self._row(f"{name} {missing}, %", share)

    @property
    def _columns(self) -> range:
        return range(len(self.counts))

    def _row(self, label: str, figures: Sequence[Figure]) -> ResultRow:
        shown = zip(figures, self.enough, strict=True)
        cells = (figure if enough else TOO_FEW for figure, enough in shown)
        return ResultRow(label, (*cells, *([""] if len(self.counts) > 2 else [])))

    def _share(self, among: slice, place: int, at: int) -> Figure:
        """In percent; noised cells are projected first."""

        def share(cells: Floats) -> Floats:
            whole = project(cells[..., among])
            return np.asarray(100 * whole[..., place] / np.maximum(whole.sum(axis=-1), 1.0))

        return _figure(float(share(self.counts[at])), share(self._replicates(at)))

    def _replicates(self, at: int) -> Floats:
        return np.asarray(self.counts[at] - self.noise[:, at])

    def _mean(self, axis: Bins, at: int) -> Figure:
        means, _ = _moments(axis, self._replicates(at)[:, :-1])
        mean, _ = _moments(axis, self.counts[at, :-1])
        shares = _shares(self.counts[at, :-1])
        return _figure(float(mean), means, float((shares * np.diff(axis.edges)).sum() / 2))

    def _deviation(self, axis: Bins, at: int) -> Figure:
        _, variances = _moments(axis, self._replicates(at)[:, :-1])
        _, variance = _moments(axis, self.counts[at, :-1])
        shares = _shares(self.counts[at, :-1])
        open_ = float(np.sqrt((shares * np.diff(axis.edges) ** 2).sum()) / 2)
        figure = _figure(float(np.sqrt(variance)), np.sqrt(variances), open_)
        return Figure(figure.value, max(0.0, figure.low or 0.0), figure.high)

    def _difference(self) -> tuple[Figure | str, ...]:
        """Of the groups; nothing where there are no two."""
        if len(self.counts) <= 2:
            return ()
        if not all(self.enough[1:]):
            return (TOO_FEW,)
        axis, pairs = self.table.axes[-1], list(combinations(range(1, len(self.counts)), 2))

        def mean(cells: Floats) -> Floats:
            known = cells[..., :-1]
            each = [
                standardised_difference(axis if isinstance(axis, Bins) else None, a, b)
                for a, b in ((known[..., i, :], known[..., j, :]) for i, j in pairs)
            ]
            return np.asarray(np.mean(each, axis=0))

        value, drawn = float(mean(self.counts)), mean(self.counts - self.noise)
        low, high = np.quantile(drawn, (0.025, 0.975))
        # noise only adds to what is never negative: the basic interval beside the percentile one
        ends = min(low, 2 * value - high), max(high, 2 * value - low)
        return (Figure(value, max(0.0, float(min(ends[0], value))), float(max(ends[1], value))),)


def standardised_difference(axis: Bins | None, a: Floats, b: Floats) -> Floats:
    """(..., B) counts of two groups -> (...,), never negative. axis: of a number; None of
    categories."""
    if axis is not None:
        (mean_a, variance_a), (mean_b, variance_b) = _moments(axis, a), _moments(axis, b)
        spread = np.sqrt(np.maximum((variance_a + variance_b) / 2, 1e-12))
        return np.asarray(np.abs(mean_a - mean_b) / spread)
    p, q = _shares(a)[..., 1:], _shares(b)[..., 1:]
    alike = np.eye(p.shape[-1])
    covariance = sum(
        of[..., None] * alike - of[..., :, None] * of[..., None, :] for of in (p, q)
    ) / 2  # fmt: skip
    between = p - q
    inverse = np.linalg.pinv(covariance, rcond=1e-9, hermitian=True)
    squared = np.einsum("...i,...ij,...j->...", between, inverse, between)
    return np.asarray(np.sqrt(np.maximum(squared, 0.0)))


def _shares(cells: Floats) -> Floats:
    whole = project(cells)
    return np.asarray(whole / np.maximum(whole.sum(axis=-1, keepdims=True), 1e-9))


def _moments(axis: Bins, cells: Floats) -> tuple[Floats, Floats]:
    """(..., bins) -> mean and variance, of the bins' middles."""
    edges = np.array(axis.edges)
    middle, shares = (edges[:-1] + edges[1:]) / 2, _shares(cells)
    mean = (shares * middle).sum(axis=-1)
    return mean, (shares * (middle - mean[..., None]) ** 2).sum(axis=-1)


def _figure(value: float, spread: Floats, open_: float = 0.0) -> Figure:
    low, high = np.quantile(spread, (0.025, 0.975))
    return Figure(value, float(min(low, value)) - open_, float(max(high, value)) + open_)


def table_one(analysis: TableOne, tables: Sequence[NoisedTable]) -> AnalysisResult:
    """tables: the patients', by group or not, then one for each variable."""
    patients, *variables = tables
    generator = np.random.default_rng(0)
    names = patients.names(0) if analysis.grouped else ()
    number = [patients.counts.sum(), *patients.counts[:-1]] if names else [patients.counts.sum()]
    added = [patients.counts.size, *([1] * len(names))]
    cells: list[Figure | str] = []
    for count, noised in zip(number, added, strict=True):
        within = patients.within(noised)
        shown = count >= patients.least_count
        figure = Figure(float(count), max(0.0, float(count) - within), float(count) + within)
        cells.append(figure if shown else f"fewer than {patients.least_count}")
    more = ("standardised difference",) if len(names) > 1 else ()
    rows = [ResultRow("patients", (*cells, *([""] if more else [])))]
    for table in variables:
        rows.extend(Variable.of(table, analysis.grouped, generator).rows())
    one = ResultTable("Table one", ("all patients", *names, *more), tuple(rows))
    note = (
        "Intervals (95%) are of the noise and the bins, for these patients. Values outside a "
        "variable's public range count as its end; shares but those of missing values are of the "
        "patients who have a value."
    )
    return AnalysisResult((one,), (note,))
