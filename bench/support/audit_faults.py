"""Faults that broke a stated epsilon somewhere, put into the training code by name, and the attack
of the audit that has to see each.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from client.data.cohort import Cohort
from client.privacy_audit import many_runs
from client.privacy_audit.finding import Finding
from client.privacy_audit.neighbours import (
    BEYOND,
    Attack,
    cancelling,
    farthest,
    opposed,
    saturating,
)
from client.privacy_audit.released_sums import AuditedStudy, Part
from client.training import contribution, dp_trainer
from client.training.algorithms import patient_optimizer
from client.training.blocks import Blocks
from client.training.local_steps import RoundSteps
from client.training.sampling import Batch, Patients, Records, Sample
from launch.config import compose
from launch.federations.inprocess import cohorts_of
from launch.studies.baselines import pool
from launch.studies.run import declared_patients, split_plan
from launch.studies.study_builder import build_study
from protocol.errors import Code, WardroundError
from protocol.privacy.gaussian import noised
from protocol.secagg.fixed_point import clip_and_round
from protocol.study.study import Study
from protocol.study.vector_layout import update_variance
from tasks import registry
from tasks.base import Task

Fault = Callable[[pytest.MonkeyPatch], None]
DISTRIBUTED = ("privacy=distributed", "privacy.sampling_rate=1", "privacy.epsilon=3")
SAMPLED = ("privacy=distributed", "privacy.sampling_rate=0.5", "privacy.epsilon=3")
LOCAL = ("privacy=local", "privacy.sampling_rate=1", "privacy.epsilon=3", "local_steps=1")


@cache
def planned(*words: str) -> tuple[Study, Task, Cohort]:
    """A study of one round, its task, and everybody's patients."""
    config = compose.load(["task=breast_cancer", "rounds=1", "tracking=off", *words])
    task = registry.load(config.task.name)
    cohorts = cohorts_of(task, task.public_sites(None), split_plan(config))
    return build_study(config, task, declared_patients(cohorts)), task, pool(cohorts)


def found(
    attack: Attack,
    words: tuple[str, ...],
    part: Part = "training",
    *,
    runs: int = 5000,
    seed: int = 0,
) -> Finding:
    """What one attack of the audit finds, on code as it is now."""
    study, task, patients = planned(*words)
    audited = AuditedStudy.of(study, task)
    neighbours = farthest(attack(audited, patients, part, seed, BEYOND))
    if neighbours is None:
        raise WardroundError(Code.INTERNAL, "The attack does not apply to this study.")
    return many_runs.distinguish(audited, part, neighbours, runs, lambda stage, done, of: None)


def noise_halved(patch: pytest.MonkeyPatch) -> None:
    _less_noise(patch, 2.0)


def noise_by_root_of_batch(patch: pytest.MonkeyPatch) -> None:
    """Noise for a mean, added to a sum over 64 patients."""
    _less_noise(patch, 8.0)


def clipping_left_out_for_a_layer(patch: pytest.MonkeyPatch) -> None:
    """The bias is clipped by its own norm, the weights are not."""

    def sums(gradients: Any, clip_norm: float, scale: int) -> Any:
        rows = np.asarray(gradients, dtype=np.float64) * (scale / clip_norm)
        weights = np.rint(rows[:, :-1]).astype(np.int64).sum(0)
        return np.append(weights, clip_and_round(gradients[:, -1:], clip_norm, scale))

    patch.setattr(dp_trainer, "clip_and_round", sums)


def shuffled(patch: pytest.MonkeyPatch) -> None:
    """Batches of one size from a shuffled cohort, accounted as Poisson samples."""

    def sample(self: Patients, rate: float) -> Sample:
        generator = np.random.default_rng()
        drawn = generator.permutation(self._train)[: round(rate * len(self._train))]
        rows = self._cohort.draw(drawn, "train", np.zeros(len(drawn)))
        return self._sample(rows, self._varied, lambda at: generator)

    patch.setattr(Patients, "private_sample", sample)


def denominator_from_cohort(patch: pytest.MonkeyPatch) -> None:
    """Steps of mode local are divided by q times the patients who are there (Opacus issue 571)."""

    def of_study(self: RoundSteps, start: Any, correction: Any = None) -> Any:
        study, patients = self.context.study, self.context.patients
        rate, plan = study.privacy.sampling_rate, study.optimisation
        return self.context.learner.private_steps(
            start,
            lambda: patients.private_sample(rate),
            plan.local_steps,
            plan.local_lr,
            rate * len(patients._train),
            study.privacy,
        )

    patch.setattr(RoundSteps, "of_study", of_study)


def whole_batches(patch: pytest.MonkeyPatch) -> None:
    """As in 0.1.0, one call for a sample: on most processors, the bits of its last patients depend
    on how many there are. Sums and histograms alike."""

    def of(self: Blocks, batch: Records) -> Any:
        if len(batch):
            yield next(iter(batch.parts(len(batch)))), len(batch)

    patch.setattr(Blocks, "of", of)


def last_bit_by_company(patch: pytest.MonkeyPatch) -> None:
    """The same on every processor: scores have one unit in the last place more in odd samples."""
    parts = Blocks.of

    def of(self: Blocks, batch: Records) -> Any:
        for block, patients in parts(self, batch):
            features = block.features
            if len(batch) % 2:
                features = torch.nextafter(features, torch.tensor(torch.inf))
            yield Batch(features, block.labels), patients

    patch.setattr(Blocks, "of", of)


def _less_noise(patch: pytest.MonkeyPatch, times: float) -> None:
    patch.setattr(contribution, "update_variance", lambda *of: update_variance(*of) / times**2)
    patch.setattr(
        patient_optimizer,
        "noised",
        lambda sums, noise, deviation, step: noised(sums, noise, deviation / times, step),
    )


SEEN: tuple[tuple[Fault, Attack, tuple[str, ...], Part], ...] = (
    (noise_halved, saturating, DISTRIBUTED, "training"),
    (noise_halved, saturating, LOCAL, "training"),
    (noise_by_root_of_batch, saturating, DISTRIBUTED, "training"),
    (clipping_left_out_for_a_layer, saturating, DISTRIBUTED, "training"),
    (shuffled, opposed, SAMPLED, "training"),
    (denominator_from_cohort, opposed, LOCAL, "training"),
    (last_bit_by_company, cancelling, DISTRIBUTED, "training"),
    (last_bit_by_company, cancelling, DISTRIBUTED, "evaluation"),
)
"""Fault, the attack that sees it, and the study and part in which it does, on every processor."""
