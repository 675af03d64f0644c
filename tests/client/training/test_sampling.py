"""Samples of patients: who is drawn, and what a task may do to a sample that trains."""

from __future__ import annotations

import numpy as np
import torch

from client.data.cohort import Cohort
from client.training.sampling import Patients


def cohort(patients: int) -> Cohort:
    """Two thirds of the patients train; patient k's only record is [k]."""
    known = np.arange(patients)
    train = known % 3 != 0
    return Cohort(
        features=known[:, None].astype(np.float32),
        labels=(known % 2).astype(np.float32),
        patient=known,
        u=known / patients,
        in_training=train,
        train=train,
        evaluation=~train,
    )


def doubled(features: torch.Tensor, drawn: np.random.Generator) -> torch.Tensor:
    return 2 * features + float(drawn.integers(1, 3))


def test_what_trains_is_varied_and_what_is_evaluated_is_not() -> None:
    patients = Patients(cohort(30), doubled)
    assert patients.evaluation.features.flatten().tolist() == list(range(0, 30, 3))
    for batch in (
        patients.private_sample(1.0),
        patients.plain_sample(1.0, np.random.default_rng(5)),
    ):
        moved = batch.features.flatten() - 2 * torch.tensor([k for k in range(30) if k % 3])
        assert moved.unique().tolist() in ([1.0], [2.0])


def test_a_seeded_sample_is_varied_the_same_way_again() -> None:
    def sample(seed: int) -> torch.Tensor:
        generator, patients = np.random.default_rng(seed), Patients(cohort(60), doubled)
        return torch.cat([patients.plain_sample(0.3, generator).features for _ in range(8)])

    assert torch.equal(sample(1), sample(1))
    assert not torch.equal(sample(1), sample(2))
