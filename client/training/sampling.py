"""Poisson samples of patients, one record of each: the unit of privacy is the patient.

Whether a patient is drawn, with which record, and how that is varied comes from random bits of the
patient's own: whoever else is in the cohort moves none of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from client.data.cohort import Cohort
from protocol.privacy.randomness import PatientDraws, poisson_sample
from tasks.base import Varied


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
        """`varied`: what the task does to every record that trains (`Task.varied`)."""
        self._cohort, self._varied = cohort, varied
        self._features = torch.tensor(cohort.features)
        self._labels = torch.tensor(cohort.labels)
        self._train = cohort.members("train")
        scored = cohort.first(cohort.members("evaluation"), "evaluation")
        self.evaluation = self._batch(scored)
        """The first record of every patient of the evaluation part."""
        self.levels = None if cohort.levels is None else cohort.levels[scored]
        """(patients of the evaluation part, partitions): in which level that record is."""

    @property
    def training(self) -> int:
        """Patients whom a sample may have."""
        return len(self._train)

    def private_sample(
        self, rate: float, fresh: Callable[[], PatientDraws] = PatientDraws
    ) -> Batch:
        """Each training patient with probability `rate`; randomness of the operating system.

        fresh: keys the draws; another one is given by tests only.
        """
        everyone = self._cohort.identity[self._train]
        words = fresh().words(everyone)
        drawn = poisson_sample(words[:, 0], rate)
        picks = (words[drawn, 1] >> np.uint64(11)) * 2.0**-53
        keys = fresh().words(everyone[drawn]) if self._varied is not None else ()
        own = (np.random.Generator(np.random.Philox(key=key)) for key in keys)
        return self._training(self._train[drawn], picks, own)

    def plain_sample(self, rate: float, generator: np.random.Generator) -> Batch:
        """The same from one seeded generator, for studies without privacy: reproducible."""
        drawn = self._train[generator.random(len(self._train)) < rate]
        picks = generator.random(len(drawn))
        return self._training(drawn, picks, itertools.repeat(generator, len(drawn)))

    def _training(
        self,
        patients: npt.NDArray[np.int64],
        picks: npt.NDArray[np.float64],
        generators: Iterable[np.random.Generator],
    ) -> Batch:
        batch = self._batch(self._cohort.draw(patients, "train", picks))
        if self._varied is None or not len(batch):
            return batch
        # Each in memory of its own, so that it is computed as if it were alone (`blocks`).
        alone = (features.clone() for features in batch.features)
        varied = [self._varied(*one) for one in zip(alone, generators, strict=True)]
        return Batch(torch.stack(varied), batch.labels)

    def _batch(self, rows: npt.NDArray[np.int64]) -> Batch:
        chosen = torch.from_numpy(rows)
        return Batch(self._features[chosen].float(), self._labels[chosen])
