"""Robust aggregation: updates that may be seen, combined so that a few liars do not matter.

Only without secure aggregation, which opens nothing but a sum, and only where every site's policy
allows it (`policy.unmasked`). Sites count equally here, whatever they declare: a weight that a site
chooses is a lever. Score histograms are summed as ever. Memory grows with the sites: all n updates
of an attempt are held at once, n P words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import assert_never

import numpy as np
import numpy.typing as npt

from protocol.errors import Code, WardroundError
from protocol.secagg.aggregate import Chunk, ShareSum
from protocol.study.algorithms import Krum, Median, TrimmedMean
from protocol.study.study import Study
from protocol.study.vector_layout import Integers, Sections, update_scale
from protocol.vectors import Vector

Floats = npt.NDArray[np.float64]
_VALUES = 1 << 20
"""Float64 values looked at at a time (8 MiB)."""


class UnmaskedOpening:
    """An `ShareSum` of shares without masks that keeps each site's update by itself."""

    def __init__(self, participants: Sequence[str], sections: Sections) -> None:
        self._sections = sections
        self._missing = set(participants)
        self._sum = np.zeros(sections.length, dtype=np.int64)
        self.updates: dict[str, Integers] = {}
        self.size = 0
        """Bytes of one share, once one has come."""

    def fold(self, site: str, chunks: Iterable[Chunk]) -> None:
        """Takes one site's share. Raises what `ShareSum.fold` and `ShareSum.open` raise of it."""
        sections = self._sections
        alone = ShareSum([site], sections.length, sections.study.aggregation.word_bits)
        alone.fold(site, chunks)
        share = alone.open()
        if site not in self._missing:
            raise WardroundError(Code.AGGREGATION, "A share came from a site that is not asked.")
        self._missing.discard(site)
        self.size = alone.size
        self.updates[site] = share[sections.update].copy()
        self._sum[sections.histogram] += share[sections.histogram]

    def open(self) -> Integers:
        """(length,) int64: histograms summed, and zeros for the updates, which are in `updates`.

        Raises WardroundError(AGGREGATION) while a share is missing."""
        if self._missing:
            raise WardroundError(
                Code.AGGREGATION, f"No share came from {', '.join(sorted(self._missing))}."
            )
        return self._sum


def robust_gradient(study: Study, updates: Mapping[str, Integers]) -> Vector:
    """Each site's (P,) weighted integers -> (P,) float32 gradient for the server optimiser: minus
    the robust combination of the sites' differences, each with its weight taken off again."""
    sites, rule = sorted(updates), study.aggregation.robust
    scale = update_scale(study) / study.patients()
    weights = np.array([study.patients(frozenset({site})) * scale for site in sites])
    rows = [updates[site] for site in sites]
    match rule:
        case Krum():
            chosen = krum(rows, weights, rule.byzantine)
            return np.asarray(rows[chosen] / -weights[chosen], dtype=np.float32)
        case Median():
            return -_by_coordinate(rows, weights, lambda values: np.median(values, axis=0))
        case TrimmedMean(byzantine=few):
            inner = slice(few, len(rows) - few)
            return -_by_coordinate(
                rows, weights, lambda values: np.sort(values, axis=0)[inner].mean(axis=0)
            )
        case None:
            raise WardroundError(Code.INTERNAL, "The study has no robust rule.")
    assert_never(rule)


def _by_coordinate(
    rows: Sequence[Integers], weights: Floats, combined: Callable[[Floats], Floats]
) -> Vector:
    """n rows, (P,) each, and what to divide them by -> (P,) float32; combined: (n, B) -> (B,)."""
    result = np.empty(len(rows[0]), dtype=np.float32)
    for block in _blocks(len(rows), len(rows[0])):
        result[block] = combined(np.stack([row[block] for row in rows]) / weights[:, None])
    return result


def krum(rows: Sequence[Integers], weights: Floats, byzantine: int) -> int:
    """n rows, (P,) each, and what to divide them by -> the index of Krum's choice.

    The score of a row is the sum of its squared distances to its n - f - 2 nearest other rows
    (Blanchard et al. 2017, section 4); the least wins, the first of equals.
    """
    count = len(rows)
    distances = np.zeros((count, count))
    for block in _blocks(count, len(rows[0])):
        values = np.stack([row[block] for row in rows]) / weights[:, None]
        for one in range(count):
            distances[one] += ((values - values[one]) ** 2).sum(axis=1)
    np.fill_diagonal(distances, np.inf)
    nearest = np.sort(distances, axis=1)[:, : count - byzantine - 2]
    return int(np.argmin(nearest.sum(axis=1)))


def _blocks(rows: int, columns: int) -> Iterable[slice]:
    width = max(1, _VALUES // rows)
    return (slice(start, start + width) for start in range(0, columns, width))
