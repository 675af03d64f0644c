"""Poisson samples of patients, one record of each: the unit of privacy is the patient."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from client.data.cohort import Cohort
from protocol.privacy.randomness import poisson_sample

Varied = Callable[[Tensor, np.random.Generator], Tensor]


@dataclass(frozen=True)
class Batch:
    """features (B, ...) float32, labels (B,) float32; B may be 0."""

    features: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def parts(self, size: int) -> Iterator[Batch]:
        """The batch in parts of at most `size` patients; at least one part, which may be empty."""
        for start in range(0, max(1, len(self)), size):
            yield Batch(
                self.features[start : start + size],
                self.labels[start : start + size],
            )


class Patients:
    """A cohort as training and evaluation draw from it."""

    def __init__(self, cohort: Cohort, varied: Varied | None = None) -> None:
        """`varied`: what the task does to every sample that trains (`Task.varied`)."""
        self._cohort, self._varied = cohort, varied
        self._features = torch.tensor(cohort.features)
        self._labels = torch.tensor(cohort.labels)
        self._train = cohort.members("train")
        self.evaluation = self._batch(cohort.first(cohort.members("evaluation"), "evaluation"))
        """The first record of every patient of the evaluation part."""

    def private_sample(self, rate: float) -> Batch:
        """Each training patient with probability `rate`; randomness of the operating system."""
        drawn = self._train[poisson_sample(len(self._train), rate)]
        return self._training(drawn, np.random.default_rng())

    def plain_sample(self, rate: float, generator: np.random.Generator) -> Batch:
        """The same from a seeded generator, for studies without privacy: reproducible."""
        drawn = self._train[generator.random(len(self._train)) < rate]
        return self._training(drawn, generator)

    def _training(self, patients: npt.NDArray[np.int64], generator: np.random.Generator) -> Batch:
        batch = self._batch(self._cohort.draw(patients, "train", generator))
        if self._varied is None:
            return batch
        return Batch(self._varied(batch.features, generator), batch.labels)

    def _batch(self, rows: npt.NDArray[np.int64]) -> Batch:
        chosen = torch.from_numpy(rows)
        return Batch(self._features[chosen].float(), self._labels[chosen])
