"""Whether sites differ from one another in a column by more than noise and chance explain.

Each site's shares q of the groups of a column's cells stand beside the shares p that all sites have
released, as d = (q - p) / sqrt(p), with weights w that are inverse to the variance which chance
and the site's own noise give to d. From the sums over sites of w, w d and w d^2, Cochran's Q (1954)
is the sum over groups of (sum w d^2) - (sum w d)^2 / (sum w): how far the sites lie from their own
weighted mean, so that an error of p, the same at all sites, cancels. Where they are alike its mean
is (K - 1) (G - 1) for K sites and G groups. I^2 (Higgins and Thompson 2002) is the part of Q that
differences explain, neither chance nor noise. The same sum without the size of the samples, Q by
sum w, is the stability index of a hospital against all (`protocol.statistics.drift`), on average.

What Q comes to while nothing differs is simulated, since noise has longer tails than a normal
distribution: p-values, and the limit that 95% of it stay below. The root of Q is a length, and errs
by no more than the length of the error: intervals hold at least 95%.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from protocol.statistics.drift import DRAWS, Floats
from protocol.statistics.noised_table import NoisedTable
from protocol.study.query import FIGURE_UNIT, LARGEST_FIGURE, SITES_THAT, Differing
from protocol.study.vector_layout import Integers

_LEAST_PATIENTS, _LEAST_SIGNAL = 5.0, 3.0


@dataclass(frozen=True)
class Between:
    """sites: how many have enough patients to tell. patients: of these sites, noised. index: the
    mean stability index of a site against all, without what chance and noise add to it on average;
    explained: I^2; each with the ends of an interval of at least 95%. limit: what 95% of indices
    stay below while nothing differs. q, degrees, p: Cochran's test."""

    sites: int
    patients: float
    index: tuple[float, float, float]
    explained: tuple[float, float, float]
    limit: float
    q: float
    degrees: int
    p: float


def groups(counts: Floats, variances: Floats, sites: int) -> tuple[int, ...]:
    """(B,) released noised counts and the variance of each one's noise -> (B,) to which group each
    cell belongs, by what was released alone: neighbours are joined until each group holds five
    patients at each of `sites` sites on average, and three times its noise. Where that leaves one
    group only: the commonest cell, and all others together."""
    starts, begun = [0], 0
    for at in range(1, len(counts)):
        spread = float(np.sqrt(variances[begun:at].sum()))
        least = max(_LEAST_PATIENTS * sites, _LEAST_SIGNAL * spread)
        if counts[begun:at].sum() >= least:
            starts.append(at)
            begun = at
    spread = float(np.sqrt(variances[begun:].sum()))
    if counts[begun:].sum() < max(_LEAST_PATIENTS * sites, _LEAST_SIGNAL * spread):
        starts = starts[:-1]
    if len(starts) > 1:
        return tuple(int(np.searchsorted(starts, at, "right")) - 1 for at in range(len(counts)))
    commonest = int(np.argmax(counts))
    return tuple(int(at != commonest) for at in range(len(counts)))


def figures(statistic: Differing, counts: Floats, variance: float) -> Floats:
    """(..., B) noised counts of one site, and the variance of the noise of one cell -> (..., 2 +
    3 G): 1 for the site, its patients, and of each group w, w d, w d^2."""
    return _figures(statistic, counts @ _members(statistic), variance)


def to_integers(of: Floats) -> npt.NDArray[np.int64]:
    """Figures in units of 1 / FIGURE_UNIT, cut to LARGEST_FIGURE."""
    scaled = np.clip(of * FIGURE_UNIT, -LARGEST_FIGURE, LARGEST_FIGURE)
    return np.asarray(np.rint(scaled), dtype=np.int64)


def opened(total: Integers, scale: float) -> tuple[tuple[int, ...], Floats]:
    """(cells,) opened integers of one `Differing` -> how many sites said each of `SITES_THAT`, and
    (2 + 3 G,) sums of figures. Integers are in units of `scale`, and of FIGURE_UNIT."""
    words, sums = np.split(total, [len(SITES_THAT)])
    return tuple(round(int(word) / scale) for word in words), sums / FIGURE_UNIT


def between(
    statistic: Differing,
    sums: Floats,
    declared: Sequence[int],
    cell: NoisedTable,
    generator: np.random.Generator,
    draws: int = DRAWS,
) -> Between | None:
    """sums: (2 + 3 G,) over sites, of `figures`. declared: patients of each site of the roster, of
    which those with most are taken for the sites that tell. cell: whose noise is that of one site's
    cell. draws: of the simulation. None where fewer than two sites have enough patients to tell."""
    sites, patients = round(float(sums[0])), float(sums[1])
    if sites < 2 or float(sums[2 : 2 + statistic.groups_compared].min()) <= 0:
        return None
    q, index = (float(of) for of in q_and_index(sums))
    largest = np.sort(declared)[::-1][:sites]
    sizes = np.maximum(1, np.rint(patients * largest / largest.sum())).astype(int)
    qs, indices = q_and_index(_alike(statistic, sizes.tolist(), cell, generator, draws))
    degrees = (sites - 1) * (statistic.groups_compared - 1)
    limit = float(np.quantile(indices, 0.95))
    low, high = _ends(q, float(np.quantile(qs, 0.95)))
    beyond = max(0.0, q - float(qs.mean()))
    return Between(
        sites=sites,
        patients=patients,
        index=(max(0.0, index - float(indices.mean())), *_ends(index, limit)),
        explained=(beyond / max(q, 1.0), low / (low + degrees), high / (high + degrees)),
        limit=limit,
        q=q,
        degrees=degrees,
        p=float((1 + (qs >= q).sum()) / (1 + len(qs))),
    )


def _ends(seen: float, limit: float) -> tuple[float, float]:
    """The interval of a squared length whose error is below `limit` in 95% of cases."""
    return max(0.0, seen**0.5 - limit**0.5) ** 2, (seen**0.5 + limit**0.5) ** 2


def _members(statistic: Differing) -> Floats:
    """(B, G): 1 where a cell belongs to a group."""
    return np.eye(statistic.groups_compared)[list(statistic.groups)]


def _shares(statistic: Differing, counts: Floats) -> Floats:
    """(..., B) released counts -> (..., G) shares, none of which is 0."""
    grouped = np.maximum(counts @ _members(statistic), _LEAST_PATIENTS)
    return np.asarray(grouped / grouped.sum(axis=-1, keepdims=True))


def _figures(statistic: Differing, grouped: Floats, variance: float) -> Floats:
    p, widths = _shares(statistic, np.array(statistic.released.counts)), _members(statistic).sum(0)
    patients = np.maximum(grouped.sum(axis=-1, keepdims=True), 1.0)
    d = (grouped / patients - p) / np.sqrt(p)
    # the noise moves the number of patients too
    noise = variance * (widths * (1 - p) ** 2 + p**2 * (widths.sum() - widths)) / p
    w = (1 - p) / ((1 - p) / patients + noise / patients**2)
    site = np.concatenate([np.ones_like(patients), patients], axis=-1)
    return np.concatenate([site, w, w * d, w * d**2], axis=-1)


def q_and_index(sums: Floats) -> tuple[Floats, Floats]:
    """(..., 2 + 3 G) -> (...) each: Q, and the index with what chance and noise add to it."""
    w, wd, wd2 = np.split(sums[..., 2:], 3, axis=-1)
    by_group = np.maximum(0.0, wd2 - wd**2 / w)
    return by_group.sum(axis=-1), (by_group / w).sum(axis=-1)


def _alike(
    statistic: Differing,
    sizes: Sequence[int],
    cell: NoisedTable,
    generator: np.random.Generator,
    draws: int,
) -> Floats:
    """(draws, 2 + 3 G) sums over sites of so many patients each that do not differ, but have any
    shares that agree with what was released."""
    released, widths = statistic.released, _members(statistic).sum(axis=0)
    noise = generator.normal(size=(draws, len(released.counts))) * np.sqrt(released.variances)
    shares = _shares(statistic, np.array(released.counts) + noise)
    sums = np.zeros((draws, 2 + 3 * statistic.groups_compared))
    for patients in sizes:
        of_site = generator.multinomial(patients, shares).astype(np.float64)
        for group, width in enumerate(widths):
            of_site[:, group] += cell.noise(generator, (draws, int(width))).sum(axis=1)
        sums += _figures(statistic, of_site, cell.variance)
    return sums
