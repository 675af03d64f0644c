"""Fusion: evidence adds up, a side that is missing says nothing, and privacy sees one patient."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from client.training.dp_trainer import DPTrainer
from client.training.sampling import Batch
from tasks.datasets.generated_patients import sites
from tasks.schema import PATIENT, Table
from tasks.shipped.fusion import RADIOGRAPH, Fusion, LateFusion
from tests.narrowing import instance, present

TASKS = [Fusion(), Fusion(picture="cnn")]


def _patients(count: int = 40) -> Table:
    return {name: values[:count] for name, values in sites()["harbour"].items()}


def _moved(task: Fusion) -> LateFusion:
    """The model away from its start."""
    torch.manual_seed(1)
    model = instance(LateFusion, task.model())
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


@pytest.mark.parametrize("task", TASKS, ids=lambda t: str(t.options["picture"]))
def test_log_odds_of_both_sides_add_up(task: Fusion) -> None:
    rows = torch.from_numpy(task.features(_patients()))
    model = _moved(task)
    both, picture, record = model(rows)[:, :3].T
    prior = 0.1 * model.prior.weight[0, 0]
    assert torch.allclose(both - prior, (picture - prior) + (record - prior), atol=1e-4)


@pytest.mark.parametrize("task", TASKS, ids=lambda t: str(t.options["picture"]))
def test_a_missing_side_says_nothing_and_teaches_its_branch_nothing(task: Fusion) -> None:
    rows = task.features(_patients())
    model = _moved(task)
    outputs = model(torch.from_numpy(task.without(rows, "picture")))
    prior = 0.1 * model.prior.weight[0, 0]
    assert torch.allclose(outputs[:, 1], prior.expand(len(rows)))
    assert torch.allclose(outputs[:, 0], outputs[:, 2])
    task.losses(outputs, torch.ones(len(rows))).sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in model.picture.parameters())
    model.zero_grad()
    outputs = model(torch.from_numpy(task.without(rows, "record")))
    assert torch.allclose(outputs[:, 0], outputs[:, 1])
    task.losses(outputs, torch.ones(len(rows))).sum().backward()
    assert not present(model.record.weight.grad).any()


def test_a_picture_of_zeros_and_a_record_without_values_are_what_is_missing() -> None:
    task = Fusion()
    table = _patients(4)
    pictures = table[RADIOGRAPH].copy()
    pictures[1] = 0
    empty = {name: values.copy() for name, values in table.items()}
    for column in task.schema.columns:
        empty[column.name][2] = None if column.kind == "category" else np.nan
    rows = task.features(empty | {RADIOGRAPH: pictures})
    assert rows[:, task.width].tolist() == [1, 0, 1, 1]
    assert rows[:, -1].tolist() == [1, 1, 0, 1]
    assert not rows[1, : task.width].any()
    assert not rows[2, task.width + 1 :].any()


def test_one_side_alone_hides_the_other() -> None:
    table = _patients()
    both = Fusion().features(table)
    assert np.array_equal(Fusion(sides="picture").features(table), Fusion().without(both, "record"))
    assert np.array_equal(Fusion(sides="record").features(table), Fusion().without(both, "picture"))


@pytest.mark.parametrize("task", TASKS, ids=lambda t: str(t.options["picture"]))
def test_losses_and_gradients_are_of_one_patient_each(task: Fusion) -> None:
    table = _patients(6)
    rows, labels = torch.from_numpy(task.features(table)), torch.tensor([0.0, 1, 1, 0, 1, 0])
    model = _moved(task)
    losses = task.losses(model(rows), labels)
    assert losses.shape == (6,)
    alone = [task.losses(model(rows[k : k + 1]), labels[k : k + 1])[0] for k in range(6)]
    assert torch.allclose(losses, torch.stack(alone), atol=1e-5)
    learner = DPTrainer(task, 0)
    weights = learner.model.weights()
    together = learner.clipped_sum(weights, Batch(rows, labels), 1e3, 10**6)
    apart = sum(
        learner.clipped_sum(weights, Batch(rows[k : k + 1], labels[k : k + 1]), 1e3, 10**6)
        for k in range(6)
    )
    assert np.abs(together).max() > 100
    assert np.abs(together - apart).max() <= 12


def test_the_loss_weighs_losing_a_side_by_constants() -> None:
    outputs = torch.tensor([[2.0, 1.0, -1.0, 0.3]])
    expected = [torch.nn.functional.softplus(torch.tensor(-z)) for z in (2.0, 1.0, -1.0)]
    loss = Fusion().losses(outputs, torch.tensor([1.0]))
    assert loss[0] == pytest.approx(float(0.5 * expected[0] + 0.25 * sum(expected[1:]) + 0.3))


def test_generated_hospitals_are_always_the_same_and_miss_some_of_both_sides() -> None:
    first, again = sites(), sites()
    assert {site: len(table[PATIENT]) for site, table in first.items()} == {
        "harbour": 2200,
        "hill": 1500,
        "lake": 1100,
        "meadow": 700,
        "station": 500,
    }
    patients = np.concatenate([table[PATIENT] for table in first.values()])
    assert len(set(patients)) == 6000
    assert all(name.startswith("generated-") for name in patients)
    for site, table in first.items():
        assert set(table) == set(Fusion().schema.names)
        for name, values in table.items():
            same = (values == again[site][name]) | (values != values)
            assert same.all(), name
        seen = table[RADIOGRAPH].any(axis=(1, 2))
        assert 0.6 < seen.mean() < 1
        assert 0 < np.isnan(table["temperature"]).mean() < 0.4
        assert 0.2 < table["pneumonia"].mean() < 0.5


def test_picture_and_record_tell_different_things() -> None:
    """Given the truth, what the picture shows and what the record says are independent."""
    table = sites()["harbour"]
    ill = (table["pneumonia"] == 1) & ~np.isnan(table["temperature"])
    ill &= table[RADIOGRAPH].any(axis=(1, 2))
    lungs = table[RADIOGRAPH][ill][:, 12:22, 5:24].mean(axis=(1, 2))
    assert abs(np.corrcoef(lungs, table["temperature"][ill])[0, 1]) < 0.1
