"""What one site adds to one sum: integers before noise, and its share of the noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from client.learner import Learner
from client.sampling import Patients
from protocol.scores import histogram
from protocol.sections import (
    Sections,
    encode_histogram,
    encode_update,
    histogram_variance,
    update_variance,
)
from protocol.skellam import skellam
from protocol.study import Study
from protocol.vectors import Vector


@dataclass(frozen=True)
class Contributor:
    """One site's patients and warm model, for one study."""

    study: Study
    site: str
    patients: Patients
    learner: Learner

    def contribution(
        self, sections: Sections, weights: Vector, round_: int
    ) -> npt.NDArray[np.int64]:
        """(sections.length,) integers. The ledger has been debited for them before.

        weights: (P,) float32, the model of this round. Raises WardroundError(DIVERGED) in mode
        none; a private mode raises nothing that depends on data.
        """
        parts = []
        if sections.train:
            parts.append(self._update(weights, round_))
        if sections.evaluate:
            batch = self.patients.evaluation
            scores = self.learner.scores(weights, batch.features)
            counts = histogram(scores, batch.labels.numpy(), self.study.evaluation.bins)
            parts.append(encode_histogram(self.study, counts))
        return np.concatenate(parts)

    def noise(self, sections: Sections, participants: int) -> npt.NDArray[np.int64]:
        """This site's share for |U| participants, (sections.length,) integers, fresh each time."""
        share = np.zeros(sections.length, dtype=np.int64)
        for part, variance in (
            (sections.update, update_variance(self.study, participants)),
            (sections.histogram, histogram_variance(self.study, participants)),
        ):
            if variance > 0:
                share[part] = skellam(variance, part.stop - part.start)
        return share

    def _update(self, weights: Vector, round_: int) -> npt.NDArray[np.int64]:
        privacy, optimisation = self.study.privacy, self.study.optimisation
        rate = privacy.sampling_rate
        if privacy.mode == "distributed":
            batch = self.patients.private_sample(rate)
            aggregation = self.study.aggregation
            return self.learner.clipped_sum(
                weights, batch, privacy.clip_norm, aggregation.scale, aggregation.rounding
            )
        if privacy.mode == "local":
            difference = self.learner.private_steps(
                weights,
                lambda: self.patients.private_sample(rate),
                optimisation.local_steps,
                optimisation.local_lr,
                rate * self.study.patients(frozenset({self.site})),
                privacy,
            )
        else:
            seed = np.random.default_rng([optimisation.seed, round_])
            difference = self.learner.plain_steps(
                weights,
                lambda: self.patients.plain_sample(rate, seed),
                optimisation.local_steps,
                optimisation.local_lr,
            )
        return encode_update(self.study, self.site, difference)
