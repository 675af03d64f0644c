"""Poisson samples of patients, one record of each: the unit of privacy is the patient.

Whether a patient is drawn, with which record, and how that is varied comes from random bits of the
patient's own: whoever else is in the cohort moves none of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from client.data.cohort import Cohort
from client.data.stored_rows import Features, read_rows
from protocol.privacy.randomness import PatientDraws, poisson_sample
from tasks.base import Task, Varied


@dataclass(frozen=True)
class Batch:
    """features (B, ...) float32, labels (B,) or (B, rows, columns) float32; B may be 0."""

    features: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one record's features."""
        return tuple(self.features.shape[1:])

    def on(self, device: torch.device) -> Batch:
        """The same, in the memory of a device."""
        return Batch(self.features.to(device), self.labels.to(device))

    def between(self, start: int, stop: int) -> Batch:
        """Some of these patients, in order."""
        return Batch(self.features[start:stop], self.labels[start:stop])

    def parts(self, size: int) -> Iterator[Batch]:
        """The batch in parts of at most `size` patients; at least one part, which may be empty."""
        for start in range(0, max(1, len(self)), size):
            yield self.between(start, start + size)


Generators = Callable[[int], np.random.Generator]
"""Place in a sample -> what that record is varied by."""


@dataclass(frozen=True)
class Sample:
    """One record of each of B patients, read from the cohort when it is computed and not before:
    rows (B,) of (N, ...) stored features and labels; B may be 0. Where one generator varies all
    records, a sample is read once and in order."""

    stored: Features
    stored_labels: Features
    rows: npt.NDArray[np.int64]
    varied: Varied | None = None
    generators: Generators | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one record's features."""
        return tuple(self.stored.shape[1:])

    @property
    def features(self) -> Tensor:
        """(B, ...) float32, all at once."""
        return self._read(0, len(self))

    @property
    def labels(self) -> Tensor:
        """(B, ...) float32, all at once."""
        return _floats(self.stored_labels, self.rows)

    def between(self, start: int, stop: int) -> Sample:
        """Some of these patients, in order, not read yet."""
        of_all = self.generators
        generators = None if of_all is None else lambda at: of_all(start + at)
        return replace(self, rows=self.rows[start:stop], generators=generators)

    def parts(self, size: int) -> Iterator[Batch]:
        """The sample in parts of at most `size` patients; at least one part, which may be empty."""
        for start in range(0, max(1, len(self)), size):
            stop = min(start + size, len(self))
            labels = _floats(self.stored_labels, self.rows[start:stop])
            yield Batch(self._read(start, stop), labels)

    def _read(self, start: int, stop: int) -> Tensor:
        rows = self.rows[start:stop]
        features = _floats(self.stored, rows)
        if self.varied is None or self.generators is None or not len(rows):
            return features
        # Each in memory of its own, so that it is computed as if it were alone (`blocks`).
        alone = (one.clone() for one in features)
        return torch.stack(
            [self.varied(one, self.generators(start + at)) for at, one in enumerate(alone)]
        )


_DTYPES = {np.dtype(np.uint8): torch.uint8, np.dtype(np.float32): torch.float32}
Records = Batch | Sample


def _floats(stored: Features, rows: npt.NDArray[np.int64]) -> Tensor:
    """(B, ...) float32, rows of what is stored."""
    read = torch.empty((len(rows), *stored.shape[1:]), dtype=_DTYPES[stored.dtype])
    read_rows(stored, rows, read.numpy())
    return read.float()


def invented_labels(places: Tensor, shape: tuple[int, ...]) -> Tensor:
    """(B,) whole numbers -> (B, *shape) labels of nobody, 0 and 1; in a mask beside one another."""
    pixels = torch.arange(math.prod(shape)).reshape(shape)
    return (places.reshape(-1, *(1 for _ in shape)) + pixels).remainder(2).float()


class Patients:
    """A cohort as training and evaluation draw from it."""

    def __init__(
        self, cohort: Cohort, varied: Varied | None = None, class_rates: Sequence[float] = ()
    ) -> None:
        """`varied`: what the task does to every record that trains (`Task.varied`). `class_rates`:
        which share of the drawn patients of each class trains (`Task.class_rates`)."""
        self._cohort, self._varied, self._class_rates = cohort, varied, tuple(class_rates)
        self._train = cohort.members("train")
        scored = cohort.first(cohort.members("evaluation"), "evaluation")
        self.evaluation = self._sample(scored)
        """The first record of every patient of the evaluation part."""
        self.levels = None if cohort.levels is None else cohort.levels[scored]
        """(patients of the evaluation part, partitions): in which level that record is."""

    @staticmethod
    def of(task: Task, cohort: Cohort) -> Patients:
        """As this task trains on them."""
        return Patients(cohort, task.varied, task.class_rates)

    @property
    def training(self) -> int:
        """Patients whom a sample may have."""
        return len(self._train)

    def private_sample(
        self, rate: float, fresh: Callable[[], PatientDraws] = PatientDraws
    ) -> Sample:
        """Each training patient with probability `rate`, or less where the task thins a class out;
        randomness of the operating system.

        fresh: keys the draws; another one is given by tests only.
        """
        everyone = self._cohort.identity[self._train]
        words = fresh().words(everyone)
        drawn = poisson_sample(words[:, 0], rate)
        picks = (words[drawn, 1] >> np.uint64(11)) * 2.0**-53
        rows, who = self._cohort.draw(self._train[drawn], "train", picks), everyone[drawn]
        if self._class_rates:
            kept = self._kept(rows, fresh().words(who)[:, 0])
            rows, who = rows[kept], who[kept]
        keys = fresh().words(who) if self._varied is not None else words[:0]

        def own(place: int) -> np.random.Generator:
            return np.random.Generator(np.random.Philox(key=keys[place]))

        return self._sample(rows, self._varied, own)

    def plain_sample(self, rate: float, generator: np.random.Generator) -> Sample:
        """The same from one seeded generator, for studies without privacy: reproducible."""
        drawn = self._train[generator.random(len(self._train)) < rate]
        rows = self._cohort.draw(drawn, "train", generator.random(len(drawn)))
        if self._class_rates:
            rows = rows[self._kept(rows, generator.integers(0, 2**64, len(rows), np.uint64))]
        return self._sample(rows, self._varied, lambda at: generator)

    def _kept(
        self, rows: npt.NDArray[np.int64], words: npt.NDArray[np.uint64]
    ) -> npt.NDArray[np.bool_]:
        """Drawn records and a uniform word of each one's patient -> (B,) whether it trains.

        That depends on the patient's own record and draws alone, and a patient with label y trains
        with probability q r(y) <= q: the law with him is a mixture of the one at rate q and the one
        without him, so that it is no further from the latter (joint convexity of the hockey-stick
        divergence; Balle, Barthe and Gaboardi 2018, section 3). What is accounted is q.
        """
        labels = _floats(self._cohort.labels, rows).numpy()
        kept = np.zeros(len(rows), np.bool_)
        for label, share in enumerate(self._class_rates):
            here = labels == label
            kept[here] = poisson_sample(words[here], share)
        return kept

    def _sample(
        self,
        rows: npt.NDArray[np.int64],
        varied: Varied | None = None,
        generators: Generators | None = None,
    ) -> Sample:
        cohort = self._cohort
        return Sample(cohort.features, cohort.labels, rows, varied, generators)
