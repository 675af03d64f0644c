"""What an evaluation counts of one site's patients, before any noise."""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

import numpy as np
import numpy.typing as npt

from protocol.errors import Code, WardroundError
from protocol.outcomes.base import Labels, Scores
from protocol.study.study import Study
from protocol.study.subgroups import Bands, Categories, Hospitals, Partition

Levels = npt.NDArray[np.int64]


def counted(
    study: Study,
    site: str,
    blocks: Iterable[tuple[Scores, Labels]],
    patients: int,
    levels: Levels | None,
) -> npt.NDArray[np.int64]:
    """N patients' scores and labels, block by block, (N, partitions) levels -> the histogram of
    all, then that of each level of each partition: a patient is in one level of every partition.
    levels: None where no partition is of patients."""
    outcome, bins = study.outcome, study.evaluation.bins
    chosen = [np.ones(patients, dtype=np.bool_)]
    for place, partition in enumerate(study.evaluation.subgroups):
        own = _level_of_each(partition, site, patients, levels, place)
        chosen += [own == level for level in range(len(partition.levels))]
    counts = np.zeros((len(chosen), outcome.cells(bins)), dtype=np.int64)
    start = 0
    for scores, labels in blocks:
        rows = slice(start, start + len(scores))
        for total, of in zip(counts, chosen, strict=True):
            here, known = of[rows], labels.astype(np.float64)
            total += outcome.counts(scores[here], known[here], bins)
        start = rows.stop
    return counts.ravel()


def _level_of_each(
    partition: Partition, site: str, patients: int, levels: Levels | None, place: int
) -> Levels:
    match partition:
        case Hospitals():
            return np.full(patients, partition.level_of(site), dtype=np.int64)
        case Categories() | Bands():
            if levels is None:
                raise WardroundError(Code.INTERNAL, "The cohort was loaded without levels.")
            return np.asarray(levels[:, place], dtype=np.int64)
    assert_never(partition)
