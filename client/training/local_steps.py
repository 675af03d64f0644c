"""A round's steps at a site, as its algorithm asks for them: the study's, and the site's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

import numpy as np
from torch import Tensor

from client.training.algorithms.fedavg import Correction
from client.training.dp_trainer import Adjust, Learner
from client.training.sampling import Patients
from protocol.errors import Code, WardroundError
from protocol.study.study import Study
from protocol.vectors import Vector


@dataclass(frozen=True)
class StudySteps:
    """`local_steps` of the study's round `round_`: plain in mode none, DP-SGD in mode local."""

    study: Study
    site: str
    patients: Patients
    learner: Learner
    round_: int

    def __call__(self, start: Vector, correction: Correction | None = None) -> Vector:
        """(P,) float32 -> (P,) new - old weights. Raises WardroundError(DIVERGED) in mode none."""
        study, plan = self.study, self.study.optimisation
        rate, adjust = study.privacy.sampling_rate, adjusting(correction)
        match study.privacy.traits.training:
            case "dp_sgd":
                return self.learner.private_steps(
                    start,
                    lambda: self.patients.private_sample(rate),
                    plan.local_steps,
                    plan.local_lr,
                    rate * study.patients(frozenset({self.site})),
                    study.privacy,
                    adjust,
                )
            case "plain_steps":
                seed = np.random.default_rng([plan.seed, self.round_])
                return self.learner.plain_steps(
                    start,
                    lambda: self.patients.plain_sample(rate, seed),
                    plan.local_steps,
                    plan.local_lr,
                    adjust,
                )
            case "clipped_sum":
                raise WardroundError(Code.INTERNAL, "A round of one sum has no steps of its own.")
        assert_never(study.privacy.traits.training)


@dataclass(frozen=True)
class OwnSteps:
    """Plain steps on the same patients, for what never leaves the site. Only in mode none are they
    reproducible: elsewhere no sample may be foreseen."""

    study: Study
    patients: Patients
    learner: Learner
    round_: int

    def __call__(self, start: Vector, steps: int, lr: float, correction: Correction) -> Vector:
        """(P,) float32 -> (P,) new - old weights. Raises WardroundError(DIVERGED)."""
        private = self.study.privacy.traits.private
        seed = None if private else [self.study.optimisation.seed, self.round_, 1]
        generator, rate = np.random.default_rng(seed), self.study.privacy.sampling_rate
        return self.learner.plain_steps(
            start,
            lambda: self.patients.plain_sample(rate, generator),
            steps,
            lr,
            adjusting(correction),
        )


def adjusting(correction: Correction | None) -> Adjust | None:
    """A correction as what is added to a gradient just before its step."""
    if correction is None:
        return None

    def adjust(weights: Tensor, gradient: Tensor) -> None:
        gradient.add_(correction(weights))

    return adjust
