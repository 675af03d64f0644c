"""A round's steps at a site, as its algorithm asks for them: the study's, and the site's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from client.algorithms.fedavg import Correction
from client.learner import Adjust, Learner
from client.sampling import Patients
from protocol.study import Study
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
        rate, adjust = study.privacy.sampling_rate, adjusting(self.learner, correction)
        if study.privacy.mode == "local":
            return self.learner.private_steps(
                start,
                lambda: self.patients.private_sample(rate),
                plan.local_steps,
                plan.local_lr,
                rate * study.patients(frozenset({self.site})),
                study.privacy,
                adjust,
            )
        seed = np.random.default_rng([plan.seed, self.round_])
        return self.learner.plain_steps(
            start,
            lambda: self.patients.plain_sample(rate, seed),
            plan.local_steps,
            plan.local_lr,
            adjust,
        )


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
        known = self.study.privacy.mode == "none"
        seed = [self.study.optimisation.seed, self.round_, 1] if known else None
        generator, rate = np.random.default_rng(seed), self.study.privacy.sampling_rate
        return self.learner.plain_steps(
            start,
            lambda: self.patients.plain_sample(rate, generator),
            steps,
            lr,
            adjusting(self.learner, correction),
        )


def adjusting(learner: Learner, correction: Correction | None) -> Adjust | None:
    """A correction of the flat vector as one of each parameter's gradient."""
    if correction is None:
        return None

    def adjust(parameters: Sequence[nn.Parameter]) -> None:
        with torch.no_grad():
            sizes = [parameter.numel() for parameter in parameters]
            parts = torch.split(correction(learner.model.flat), sizes)
            for parameter, part in zip(parameters, parts, strict=True):
                if parameter.grad is not None:
                    parameter.grad.add_(part.view_as(parameter))

    return adjust
