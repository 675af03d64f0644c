"""How the recipes of `heart_disease.py` were found: never with a test patient.

Forty times, three quarters of each hospital's training patients train and the rest validates. The
training is the framework's own mathematics in numpy (Poisson sample, clip, one noised sum, step,
average of the last half), five models at a time. Choosing costs privacy that no epsilon here
covers, as for every published figure it stands beside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from protocol.privacy.accounting import Event, calibrate
from support.flamby_heart import Hospital, stratified

_SPLITS, _MODELS = 40, 5
_NO_CLIPPING = 50.0


@dataclass(frozen=True)
class Recipe:
    """Sampling rate q, rounds T, clip norm C, step size on the mean gradient."""

    sampling_rate: float
    rounds: int
    clip_norm: float
    lr: float


def grid(epsilon: float | None) -> list[Recipe]:
    """What was tried for this epsilon (None: no privacy)."""
    schedules = [(0.2, 150), (0.2, 100), (0.5, 60)]
    if epsilon is None:
        return [Recipe(q, t, _NO_CLIPPING, lr) for (q, t), lr in product(schedules, (1, 2, 4, 8))]
    clips, steps = [0.5, 1.0], [0.35, 0.5, 0.7, 1.0, 2.0]
    if epsilon < 0.5:
        clips, steps = [0.125, 0.25, 0.5], [0.0625, 0.125, 0.25, 0.5]
    return [
        Recipe(q, t, clip, step / clip) for (q, t), clip, step in product(schedules, clips, steps)
    ]


def search(
    found: dict[str, Hospital],
    epsilon: float | None,
    delta: float,
    *,
    recipes: Sequence[Recipe] | None = None,
    shares: float = 1.0,
) -> list[tuple[float, Recipe]]:
    """(validation accuracy, mean over hospitals; recipe), best first.

    recipes: instead of `grid`. shares: variance of the sum's noise over that of one whole share.
    """
    scored = []
    for recipe in grid(epsilon) if recipes is None else recipes:
        noise = 0.0
        if epsilon is not None:
            event = Event("gaussian", 1.0, sampling_rate=recipe.sampling_rate, count=recipe.rounds)
            noise = calibrate(epsilon, delta, event) * shares**0.5
        scored.append(
            (float(np.mean([_accuracy(found, recipe, noise, k) for k in range(_SPLITS)])), recipe)
        )
    return sorted(scored, key=lambda pair: -pair[0])


def _accuracy(found: dict[str, Hospital], recipe: Recipe, noise: float, split: int) -> float:
    parts = {s: stratified(h.train, h.labels, 0.25, 1000 + split) for s, h in found.items()}
    features = np.concatenate([_biased(found[s], train) for s, (train, _) in parts.items()])
    labels = np.concatenate([found[s].labels[train] for s, (train, _) in parts.items()])
    weights = _train(features, labels, recipe, noise, np.random.default_rng(split))
    right = [
        ((_biased(found[s], held) @ weights.T > 0) == (found[s].labels[held] == 1)[:, None]).mean()
        for s, (_, held) in parts.items()
    ]
    return float(np.mean(right))


def _biased(hospital: Hospital, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return np.hstack([hospital.features[rows], np.ones((len(rows), 1))])


def _train(
    features: npt.NDArray[np.float64],
    labels: npt.NDArray[np.int64],
    recipe: Recipe,
    noise: float,
    generator: np.random.Generator,
) -> npt.NDArray[np.float64]:
    """(N, F), (N,) -> (models, F), the mean of the last half of the iterates."""
    norms = np.linalg.norm(features, axis=1)
    weights = np.zeros((_MODELS, features.shape[1]))
    total, expected = np.zeros_like(weights), recipe.sampling_rate * len(labels)
    for round_ in range(recipe.rounds):
        slope = 1 / (1 + np.exp(-weights @ features.T)) - labels
        slope *= np.minimum(1, recipe.clip_norm / np.maximum(np.abs(slope) * norms, 1e-12))
        slope *= generator.random(slope.shape) < recipe.sampling_rate
        noised = slope @ features + generator.normal(size=weights.shape) * noise * recipe.clip_norm
        weights = weights - recipe.lr * noised / expected
        if round_ >= recipe.rounds // 2:
            total += weights
    return total / (recipe.rounds - recipe.rounds // 2)
