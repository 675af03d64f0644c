"""What a bin of a number column counts as, where the column enters a model as a number.

Patients are not spread evenly over a bin: with density f at its middle m and width w their mean is,
but for terms of fourth order, m + w^2/12 (ln f)'(m) (Sheppard 1898; Lindley 1950). Middles alone
would draw slopes to 0. The density is read off the noised counts of the column, which costs nothing
more; where noise could make these up, the middle stands.
"""

from __future__ import annotations

import numpy as np

from protocol.statistics.estimation import Floats

_MOST_MOVED = 0.3
"""Of a bin's width, either way: the mean of a density that falls all through the bin."""


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
