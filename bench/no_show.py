"""Missed appointments at three generated clinics: private models beside what needs no privacy.

    python bench/no_show.py

Five folds by patient, two repetitions, delta 1e-4, with the recipes of `bench/icu.py`, none of
which was searched for here. Beside each private model, on the same patients: all clinics' training
patients pooled without privacy, and each clinic's own model without privacy. The patients are
generated (`tasks/datasets/generated_appointments.py`): a figure says how the method works, and
nothing about real ones.
"""

from __future__ import annotations

import os
import sys

import numpy as np

from icu import DELTA, RECIPES, Task
from support.figure import figure

BARS = {1.0: 0.58, 3.0: 0.61, 8.0: 0.62}
"""By epsilon, set before anything was measured."""


def main() -> int:
    task = Task.load("no_show")
    alone = task.alone()
    beside = {
        "pooled": round(task.pooled(), 4),
        **{f"alone_{site}": round(value, 4) for site, value in alone.items()},
    }
    held = []
    for epsilon, bar in BARS.items():
        aucs, spent, _ = task.private(epsilon, RECIPES[epsilon])
        held.append(
            figure(
                f"no_show_auc_eps{epsilon:g}",
                float(np.mean(aucs)),
                "AUC within 5 folds by patient",
                bar,
                least=True,
                epsilon=spent,
                delta=DELTA,
                least_of_repetitions=round(min(aucs), 4),
                most_of_repetitions=round(max(aucs), 4),
                **beside,
            )
        )
    return 0 if all(held) else 1


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
