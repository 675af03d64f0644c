"""How far a clipped sum moves when one patient joins, under weights that a coordinator may send.

The sums are as they are before noise. The weights here make the logit of every patient a small
difference of large numbers, so that the last bit of a float32 decides on which side of the loss a
patient stands. Where that bit depends on how many patients are computed together, a newcomer
changes what the others add, and not only what it adds itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from client.training.dp_trainer import DPTrainer
from client.training.sampling import Batch
from protocol.study.study import Scalar
from protocol.vectors import Vector
from tasks import registry
from tasks.base import Task

ROOT = Path(os.environ.get("WARDROUND_DATA", Path.home() / ".local/share/wardround"))
needs_heart = pytest.mark.skipif(
    not (ROOT / "heart_disease").is_dir(), reason="wardround data fetch heart_disease"
)

Mode = Literal["local", "patient", "site"]
"""local: the sum of one DP-SGD step. patient, site: the two ways to round in mode distributed."""
MODES: tuple[Mode, ...] = get_args(Mode)
CLIP_NORM = 0.5
BOUND = 1.001
"""Clip norms: one, and what floating point may add to it."""
BIG = 2.0**30
ONE_HOT = slice(2, 6)
"""Columns of heart_disease that are one category: they add up to 1 for every patient."""
MOST = 64
"""Patients in the largest batch where every size is tried: more than any matrix kernel's block."""

Sum = npt.NDArray[np.float64]


@contextmanager
def one_thread() -> Iterator[None]:
    """With more threads, how a batch is divided among them would depend on the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def learner_of(name: str, options: Mapping[str, Scalar] | None = None) -> tuple[Task, DPTrainer]:
    task = registry.load(name, options or {})
    return task, DPTrainer(task, 0)


def features(task: Task) -> Tensor:
    """(N, ...) float32 of the public patients."""
    rows = [task.features(table) for table in task.public_sites(ROOT).values()]
    return torch.from_numpy(np.concatenate(rows)).float()


def alike(patient: Tensor, count: int) -> Tensor:
    """(1, ...) -> (count, ...): differential privacy quantifies over all data sets, so patients
    may be alike."""
    return patient.expand(count, *patient.shape[1:]).contiguous()


def scored(learner: DPTrainer, features: Tensor) -> Tensor:
    """(N,) what the product computes for each of N patients, with the weights that are loaded."""
    return torch.from_numpy(learner.scores(learner.model.weights(), features))


def summed(
    learner: DPTrainer, weights: Vector, batch: Batch, mode: Mode, scale: int = 1 << 20
) -> Sum:
    """(P,) the un-noised sum of clipped gradients, in units of the clip norm."""
    if mode == "local":
        learner.model.load(weights)
        return np.asarray(learner._certified(batch, CLIP_NORM).numpy() / CLIP_NORM)
    total = learner.clipped_sum(weights, batch, CLIP_NORM, scale, mode)
    return np.asarray(total / scale, dtype=np.float64)


def moved(
    learner: DPTrainer,
    weights: Vector,
    features: Tensor,
    labels: Tensor,
    mode: Mode,
    scale: int = 1 << 20,
) -> float:
    """Clip norms between the sum over all of these patients and over all but the last."""
    few, every = (Batch(features[:n], labels[:n]) for n in (-1, len(labels)))
    return farthest(summed(learner, weights, batch, mode, scale) for batch in (few, every))


def moved_at_any_size(
    learner: DPTrainer, weights: Vector, features: Tensor, labels: Tensor, mode: Mode
) -> float:
    """The same, at most, while these patients join one by one."""
    return farthest(
        summed(learner, weights, Batch(features[:n], labels[:n]), mode)
        for n in range(len(labels) + 1)
    )


def farthest(sums: Iterable[npt.NDArray[Any]]) -> float:
    """The largest Euclidean distance between one and the next."""
    return max(float(np.linalg.norm(np.subtract(b, a, dtype=float))) for a, b in pairwise(sums))


def cancelling(learner: DPTrainer, patient: Tensor, rng: np.random.Generator) -> Vector:
    """(P,) weights whose last layer cancels on one patient, (1, ...)."""
    module = learner.model.module
    last = [m for m in module.modules() if isinstance(m, nn.Linear) and m.out_features == 1][-1]
    received: list[Tensor] = []
    hook = last.register_forward_hook(lambda _, given, __: received.append(given[0].double()))
    with torch.no_grad():
        try:
            module(patient)
        finally:
            hook.remove()
        hidden = received[0].reshape(-1, last.in_features)[0]
        largest = max(float(hidden.abs().max()), 1e-6)
        steep = BIG * 2.0 ** -float(rng.choice([0, 2, 4, 6]))
        drawn = rng.normal(size=last.in_features) * steep / largest
        weights = torch.from_numpy(drawn.astype(np.float32))
        last.weight.copy_(weights[None])
        last.bias.copy_(-(weights.double() @ hidden).float()[None])
    every: Vector = learner.model.weights()
    return every


def cancelling_on_everyone(rng: np.random.Generator) -> Vector:
    """(27,) weights of heart_disease whose large ones, on a category and on the bias, cancel on
    every patient; the small ones are of the size of a rounding error."""
    weights = (rng.normal(size=27) * BIG * 2.0**-24 * rng.choice([1, 4, 16])).astype(np.float32)
    weights[ONE_HOT] += np.float32(BIG)
    weights[-1] -= np.float32(BIG)
    return np.asarray(weights)
