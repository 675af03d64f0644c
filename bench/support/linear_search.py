"""How recipes of linear models are found: on training patients alone, never with a test patient.

Of every fold's training patients a quarter validates, four times over. The training is the
framework's own mathematics in numpy: one clipped and noised sum a round of all patients, a step,
the average of the last half. Choosing costs privacy that no epsilon here covers, as for every
published figure that it stands beside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from protocol.privacy.accounting import Event, calibrate
from support.cross_validation import Fold, auc
from tasks.models.initialisation import SCALE

_REPEATS = 4
_ROUNDS = (30, 60, 100)
_CLIP_NORMS = (0.5, 1.0, 2.0)
_STEPS = (0.1, 0.3, 1.0, 3.0, 10.0)


@dataclass(frozen=True)
class Recipe:
    """Rounds T of all patients, clip norm C, and lr * C, the step per unit of clipped gradient."""

    rounds: int
    clip_norm: float
    step: float

    @property
    def lr(self) -> float:
        """Step size on the mean clipped gradient."""
        return self.step / self.clip_norm


def search(folds: Sequence[Fold], epsilon: float, delta: float) -> list[tuple[float, Recipe]]:
    """(validation AUC, recipe), best first."""
    found = []
    for values in product(_ROUNDS, _CLIP_NORMS, _STEPS):
        recipe = Recipe(*values)
        noise = calibrate(epsilon, delta, Event("gaussian", 1.0, count=recipe.rounds + 1))
        aucs = []
        for index, fold in enumerate(folds):
            features, labels = fold.part(training=True)
            for repeat in range(_REPEATS):
                generator = np.random.default_rng([index, repeat])
                order = generator.permutation(len(labels))
                held, kept = np.split(order, [len(order) // 4])
                weights = _train(features[kept], labels[kept], recipe, noise, generator)
                scores = features[held] @ weights[:-1] + weights[-1]
                aucs.append(auc(labels[held], scores))
        found.append((float(np.mean(aucs)), recipe))
    return sorted(found, key=lambda pair: -pair[0])


def _train(
    features: npt.NDArray[np.float32],
    labels: npt.NDArray[np.float32],
    recipe: Recipe,
    noise: float,
    generator: np.random.Generator,
) -> npt.NDArray[np.float64]:
    """(N, F) with the public score last, (N,) -> (F + 1,), the bias last."""
    rows = np.hstack([features, np.ones((len(features), 1))])
    norms = np.linalg.norm(rows, axis=1)
    weights = np.zeros(rows.shape[1])
    weights[-2] = SCALE
    total = np.zeros_like(weights)
    for round_ in range(recipe.rounds):
        slope = 1 / (1 + np.exp(-rows @ weights)) - labels
        slope *= np.minimum(1, recipe.clip_norm / np.maximum(np.abs(slope) * norms, 1e-12))
        noised = slope @ rows + generator.normal(size=len(weights)) * noise * recipe.clip_norm
        weights = weights - recipe.lr * noised / len(labels)
        if round_ >= recipe.rounds // 2:
            total += weights
    return total / (recipe.rounds - recipe.rounds // 2)
