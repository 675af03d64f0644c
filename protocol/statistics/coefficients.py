"""Factors as a design matrix, and the table of coefficients that a model of them has.

A number column enters by what its bins count as. Patients are not spread evenly over a bin: with
density f at its middle m and width w their mean is, but for terms of fourth order,
m + w^2/12 (ln f)'(m) (Sheppard 1898; Lindley 1950). Middles alone would draw slopes to 0. The
density is read off the noised counts of the column, which costs nothing more; where noise could
make these up, the middle stands.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import product
from types import MappingProxyType

import numpy as np

from protocol.statistics.estimation import Fit, Floats
from protocol.statistics.noised_table import NoisedTable
from protocol.statistics.results import Figure, ResultRow, ResultTable

REMEDY = "Join levels, leave out a factor, or spend more epsilon."
WHOSE = (
    "Standard errors, intervals (95%) and p-values are of patients and noise together; the column "
    "without noise says what the same data would give unprotected."
)
_Z = 1.959964
_MOST_MOVED = 0.3
"""Of a bin's width, either way: the mean of a density that falls all through the bin."""


def design_matrix(
    table: NoisedTable,
    references: Sequence[str],
    interactions: Sequence[Sequence[int]] = (),
    numbers: Mapping[int, Floats] = MappingProxyType({}),
) -> tuple[tuple[str, ...], Floats]:
    """The names of the F columns, and (C, F): for each of the table's first axes one column for
    each level but the reference, or one of what its levels count as where `numbers` has these;
    then the products of the columns of factors that interact; a row for each combination of
    levels, the last factor's running first. No intercept."""
    levels = [table.levels(at) for at in range(len(references))]
    rows = list(product(*levels))
    factors = [
        [(table.axes[at].column, _along(numbers[at], levels[at], rows, at))]
        if at in numbers
        else [
            (name, np.array([float(row[at] == level) for row in rows]))
            for level, name in zip(levels[at], table.names(at), strict=True)
            if level != reference
        ]
        for at, reference in enumerate(references)
    ]
    terms, columns = list[str](), list[Floats]()
    for term in (*((at,) for at in range(len(factors))), *interactions):
        for parts in product(*(factors[at] for at in term)):
            terms.append(" : ".join(name for name, _ in parts))
            columns.append(np.prod([column for _, column in parts], axis=0))
    return tuple(terms), np.array(columns).reshape(len(columns), len(rows)).T


def _along(values: Floats, levels: Sequence[str], rows: Sequence[Sequence[str]], at: int) -> Floats:
    """(C,) what the level of each row counts as."""
    of = dict(zip(levels, values.tolist(), strict=True))
    return np.array([of[row[at]] for row in rows])


def coefficient_table(effect: str, ratios: bool, terms: Sequence[str], found: Fit) -> ResultTable:
    """effect: what a coefficient is, or its exponential where these are ratios. terms: names of the
    fit's first parameters."""
    from scipy.special import ndtr  # .1 s: not for whoever only trains

    rows = []
    for at, term in enumerate(terms):
        beta, error = float(found.coefficients[at]), float(found.errors[at])
        ends = np.array([beta, beta - _Z * error, beta + _Z * error])
        shown = Figure(*map(float, np.exp(np.clip(ends, -50, 50)) if ratios else ends))
        z = beta / max(error, 1e-300)
        cells = (
            shown,
            Figure(*map(float, ends)),
            *map(Figure, (error, float(found.robust[at]), float(found.sampling[at]))),
            *map(Figure, (z, float(2 * ndtr(-abs(z))))),
        )
        rows.append(ResultRow(term, cells))
    columns = (
        *(effect, "coefficient", "standard error", "robust standard error"),
        *("standard error without noise", "z", "p"),
    )
    return ResultTable("Coefficients", columns, tuple(rows), "forest")


def number_row(label: str, cells: Floats, table: NoisedTable) -> ResultRow:
    """How many patients some cells hold together."""
    number, within = float(cells.sum()), table.within(cells.size)
    return ResultRow(label, (Figure(number, max(0.0, number - within), number + within),))


def level_notes(
    table: NoisedTable,
    counts: Floats,
    factors: int,
    needed: Sequence[int],
    numbers: Collection[int] = (),
) -> Iterator[str]:
    """Levels with hardly anybody, or with hardly anybody in one of the `needed` places of the
    outcome; not of factors that enter as `numbers`. counts: noised; the axis after those of the
    factors is the outcome's."""
    for at in range(factors):
        if at in numbers:
            continue
        for level, name in enumerate(table.names(at)):
            of = np.take(counts, level, axis=at)
            if not table.enough(float(of.sum()), of.size):
                yield f"{name}: hardly anybody has this level. Join it with another."
                continue
            sides = [np.take(of, place, axis=factors - 1) for place in needed]
            if any(float(side.sum()) <= table.within(side.size) for side in sides):
                yield (
                    f"{name}: nearly all or none of these patients have the outcome (separation). "
                    "Join the level with another."
                )


def bin_values(edges: Floats, counts: Floats, noise: float) -> Floats:
    """(B + 1,) edges, (B,) noised counts, the variance of each -> (B,) values within the bins."""
    widths, middles = np.diff(edges), (edges[:-1] + edges[1:]) / 2
    known = np.flatnonzero(counts > 4 * np.sqrt(noise) + 4)
    if len(known) < 3:
        return np.asarray(middles)
    density, moved = np.log(counts[known] / widths[known]), np.zeros(len(widths))
    moved[known] = np.gradient(density, middles[known], edge_order=2) * widths[known] ** 2 / 12
    return np.asarray(middles + np.clip(moved, -_MOST_MOVED * widths, _MOST_MOVED * widths))


def too_wide(edges: Floats, counts: Floats) -> bool:
    """Whether a typical bin is wider than the standard deviation of the column: then the values of
    bins say too little of it."""
    weights = np.maximum(counts, 0.0)
    if weights.sum() <= 0:
        return True
    middles, widths = (edges[:-1] + edges[1:]) / 2, np.diff(edges)
    mean, width = (float(np.average(of, weights=weights)) for of in (middles, widths))
    variance = float(np.average((middles - mean) ** 2, weights=weights)) - width**2 / 12
    return variance < width**2
