"""A network in 2.5 dimensions: it needs the slices beside a slice, and none of empty places."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from launch.config.compose import load
from launch.studies.run import run
from tasks import contract
from tasks.examples.nodules import Nodules, TwoAndAHalf
from tasks.flat_model import FlatModel


def test_the_order_of_slices_counts_and_an_empty_place_does_not() -> None:
    contract.check(Nodules())
    torch.manual_seed(0)
    model = TwoAndAHalf()
    volumes = torch.from_numpy(Nodules().public_sites(None)["valley"]["slices"][:20]).float()
    shuffled = volumes[:, torch.randperm(8)]
    assert not torch.allclose(model(volumes), model(shuffled))
    of_nothing = torch.zeros(1, 8, 16, 16)
    torch.testing.assert_close(model(of_nothing), model.head(torch.zeros(1, 16)))


@pytest.mark.parametrize(
    "privacy",
    [
        ("privacy=none", "local_steps=2"),
        ("privacy=distributed", "privacy.epsilon=8", "privacy.delta=1e-3"),
    ],
    ids=lambda words: words[0],
)
def test_a_study_of_volumes_goes_all_the_way(tmp_path: Path, privacy: tuple[str, ...]) -> None:
    small = ("rounds=1", "privacy.sampling_rate=0.05")
    words = ["task=nodules", "tracking=off", *small, *privacy, f"output={tmp_path}"]
    outcome = run(load(words)).outcome
    before = FlatModel(Nodules(), outcome.study.optimisation.seed).weights()
    assert np.isfinite(outcome.weights).all()
    assert (outcome.weights != before).any()
    assert 0 <= outcome.metrics["auc"].value <= 1


@pytest.mark.slow
def test_its_experiment_finds_nearly_all_nodules(tmp_path: Path) -> None:
    words = ["experiment=nodules", "tracking=off", f"output={tmp_path}"]
    assert run(load(words)).outcome.metrics["auc"].value > 0.95
