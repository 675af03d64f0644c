"""Fusion of a chest picture and a health record, five generated hospitals, epsilon 3.

    python bench/fusion.py

70% of the patients train, 30% are tested, three splits by patient; each study's epsilon (3 at
delta 1e-5) covers training and the noised evaluation. The same study is run with both sides, with
the picture alone and with the record alone. Gains are differences of AUC on the same patients who
have both sides, with the standard error of a paired bootstrap over patients; losses are against
the single branch on the same patients, whose other side is taken away from the fused model.
The recipe was chosen on a fifth of the first split's training patients.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from client.training.dp_trainer import DPTrainer
from protocol.errors import WardroundError
from support.cross_validation import Data, auc, federated, trained
from support.figure import figure
from tasks.shipped.fusion import Fusion

SEEDS, SHARE = range(3), 0.3
EPSILON = 3.0
SIDES = ("picture", "record")
_DRAWS = 400


@dataclass(frozen=True)
class Scored:
    """Scores (M,) of one split's test patients who have both sides: by the fused model, by the
    fused model without the other side, and by the single branches; labels (M,)."""

    labels: npt.NDArray[np.float32]
    fused: npt.NDArray[np.float32]
    lone: dict[str, npt.NDArray[np.float32]]
    single: dict[str, npt.NDArray[np.float32]]


def overrides(seed: int) -> list[str]:
    """The task's own recipe."""
    return ["privacy=distributed", f"privacy.epsilon={EPSILON}", f"seed={seed}"]


def scored(data: dict[str, Data], seed: int) -> tuple[Scored, float]:
    """The three studies of one split, and the most epsilon that one of them spent."""
    folds = {sides: one.fold(0.0, SHARE, seed) for sides, one in data.items()}
    task = data["both"].task
    assert isinstance(task, Fusion)
    rows, labels = folds["both"].part(training=False)
    whole = (rows[:, task.width] > 0) & (rows[:, -1] > 0)
    weights, spent = trained(task, folds["both"], overrides(seed))
    learner = DPTrainer(task, 0)

    def read(view: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return learner.scores(weights, torch.from_numpy(view[whole]))

    lone = {"picture": read(task.without(rows, "record"))}
    lone["record"] = read(task.without(rows, "picture"))
    single = {}
    for side in SIDES:
        scores, used = federated(data[side].task, folds[side], overrides(seed))
        single[side], spent = scores[whole], max(spent, used)
    return Scored(labels[whole], read(rows), lone, single), spent


def gain(runs: list[Scored], side: str) -> tuple[float, float]:
    """(mean gain in AUC of the fused model over a single branch, its standard error)."""
    generator = np.random.default_rng(0)
    gains, errors = [], []
    for run in runs:
        gains.append(auc(run.labels, run.fused) - auc(run.labels, run.single[side]))
        draws = generator.integers(0, len(run.labels), (_DRAWS, len(run.labels)))
        drawn = [
            auc(run.labels[d], run.fused[d]) - auc(run.labels[d], run.single[side][d])
            for d in draws
        ]
        errors.append(np.std(drawn))
    # The splits share patients: their errors are not independent, and are not divided by three.
    spread = np.std(gains, ddof=1) if len(gains) > 1 else 0.0
    return float(np.mean(gains)), float(np.hypot(np.mean(errors), spread))


def mean_auc(runs: list[Scored], of: str, side: str) -> float:
    """Mean AUC over the splits of `lone` or `single` scores of a side."""
    return float(np.mean([auc(run.labels, getattr(run, of)[side]) for run in runs]))


def main() -> int:
    data = {}
    for sides in ("both", *SIDES):
        task = Fusion(sides=sides)
        data[sides] = Data(task, task.public_sites())
    found = [scored(data, seed) for seed in SEEDS]
    runs, spent = [run for run, _ in found], max(used for _, used in found)
    beside = {
        "fused": round(float(np.mean([auc(run.labels, run.fused) for run in runs])), 4),
        **{f"{side}_branch": round(mean_auc(runs, "single", side), 4) for side in SIDES},
        "epsilon": spent,
    }
    missed = 0
    for side in SIDES:
        value, error = gain(runs, side)
        missed += not figure(
            f"fusion_gain_over_{side}_in_standard_errors",
            value / error,
            "standard errors",
            2.0,
            least=True,
            gain=round(value, 4),
            standard_error=round(error, 4),
            **beside,
        )
        lone = mean_auc(runs, "lone", side)
        missed += not figure(
            f"fusion_loss_with_the_{side}_alone",
            mean_auc(runs, "single", side) - lone,
            "AUC",
            0.02,
            least=False,
            fused_model_on_it_alone=round(lone, 4),
            **beside,
        )
    return 1 if missed else 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        sys.exit(main())
    except WardroundError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_status)
