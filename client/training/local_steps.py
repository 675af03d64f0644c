"""A round's steps at a site, as its algorithm asks for them: the study's, and the site's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

import numpy as np
from torch import Tensor

from client.training.algorithms.fedavg import Correction
from client.training.dp_trainer import Adjust, DPTrainer, Sampler
from client.training.sampling import Patients
from protocol.errors import Code, WardroundError
from protocol.study.schedules import factor
from protocol.study.study import Study
from protocol.vectors import Vector


@dataclass(frozen=True)
class SiteContext:
    """What a site trains with in one study: its own patients and a warm model."""

    study: Study
    site: str
    patients: Patients
    learner: DPTrainer


@dataclass(frozen=True)
class RoundSteps:
    """The steps that a site may take in one round."""

    context: SiteContext
    round: int

    def of_study(self, start: Vector, correction: Correction | None = None) -> Vector:
        """`local_steps` as the study's privacy mode has them: plain ones, or DP-SGD.

        (P,) float32 -> (P,) new - old weights. Raises WardroundError(DIVERGED) for plain ones.
        """
        study, patients, learner = self.context.study, self.context.patients, self.context.learner
        plan, rate, adjust = study.optimisation, study.privacy.sampling_rate, adjusting(correction)
        lr = plan.local_lr * factor(plan.local_schedule, self.round, plan.rounds)
        match study.privacy.traits.training:
            case "dp_sgd":
                return learner.private_steps(
                    start,
                    lambda: patients.private_sample(rate),
                    plan.local_steps,
                    lr,
                    rate * study.patients(frozenset({self.context.site})),
                    study.privacy,
                    adjust,
                    plan.local_optimiser,
                )
            case "plain_steps":
                seed = [plan.seed, self.round]
                sample = self._plain_sample(seed)
                return learner.plain_steps(
                    start,
                    sample,
                    plan.local_steps,
                    lr,
                    adjust,
                    plan.local_optimiser,
                    mixed=plan.mixes,
                )
            case "clipped_sum":
                raise WardroundError(Code.INTERNAL, "A round of one sum has no steps of its own.")
        assert_never(study.privacy.traits.training)

    def of_site(self, start: Vector, steps: int, lr: float, correction: Correction) -> Vector:
        """Plain steps on the same patients, for what never leaves the site. Reproducible only
        where nothing is private: elsewhere no sample may be foreseen.

        (P,) float32 -> (P,) new - old weights. Raises WardroundError(DIVERGED).
        """
        study = self.context.study
        seed = None if study.privacy.traits.private else [study.optimisation.seed, self.round, 1]
        return self.context.learner.plain_steps(
            start, self._plain_sample(seed), steps, lr, adjusting(correction)
        )

    def _plain_sample(self, seed: list[int] | None) -> Sampler:
        generator, rate = np.random.default_rng(seed), self.context.study.privacy.sampling_rate
        return lambda: self.context.patients.plain_sample(rate, generator)


def adjusting(correction: Correction | None) -> Adjust | None:
    """A correction as what is added to a gradient just before its step, made on the processor."""
    if correction is None:
        return None

    def adjust(weights: Tensor, gradient: Tensor) -> None:
        gradient.add_(correction(weights.cpu()).to(gradient.device))

    return adjust
