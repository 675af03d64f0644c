"""Fed-Heart-Disease as FLamby splits it (du Terrail et al. 2022), in this task's columns.

Per hospital: columns 11 to 13 (slope, ca, thal) left out, rows with a missing value in the others
left out, 66% train, scikit-learn's train_test_split with random_state 43, stratified where each
label has more than two patients: 199/104, 172/89, 30/16, 85/45 patients.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import train_test_split

from tasks.base import Task
from tasks.schema import SPLIT, Table

_LEFT_OUT = ("slope", "ca", "thal")
SIZES = {"cleveland": (199, 104), "hungarian": (172, 89), "switzerland": (30, 16), "va": (85, 45)}


@dataclass(frozen=True)
class Hospital:
    """One hospital. table has the column `split`; features (N, F); labels (N,); rows by part."""

    table: Table
    features: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    train: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]


def stratified(
    rows: npt.NDArray[np.int64], labels: npt.NDArray[np.int64], share: float, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows -> (1 - share, share) of them, stratified where both labels have more than two."""
    counts = np.bincount(labels[rows], minlength=2)
    first, second = train_test_split(
        rows,
        test_size=share,
        train_size=1 - share,
        random_state=seed,
        shuffle=True,
        stratify=labels[rows] if min(counts) > 2 else None,
    )
    return first, second


def hospitals(task: Task, root: Path) -> dict[str, Hospital]:
    """Hospital -> its patients under FLamby's protocol."""
    found = {}
    for site, table in task.public_sites(root).items():
        kept = [c.name for c in task.schema.columns if c.name not in _LEFT_OUT]
        whole = ~np.isnan(np.stack([table[name] for name in kept])).any(axis=0)
        rows = {name: column[whole] for name, column in table.items()}
        rows |= {name: np.full(int(whole.sum()), np.nan) for name in _LEFT_OUT}
        labels = rows[task.schema.label].astype(np.int64)
        train, test = stratified(np.arange(len(labels)), labels, 0.34, 43)
        split = np.full(len(labels), "train", dtype=object)
        split[test] = "evaluation"
        assert (len(train), len(test)) == SIZES[site], "not FLamby's split"
        found[site] = Hospital(rows | {SPLIT: split}, task.features(rows), labels, train, test)
    return found
