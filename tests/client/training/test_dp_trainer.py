"""The traps of differentially private training, each one a test (Opacus 1.6)."""

import os
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from client.training.algorithms.descent import Descent
from client.training.algorithms.patient_optimizer import Noise, PatientOptimizer
from client.training.dp_trainer import DPTrainer
from client.training.sampling import Batch
from protocol.errors import Code, WardroundError
from protocol.privacy.gaussian import SLACK, grid
from protocol.privacy.randomness import Floats
from protocol.secagg.fixed_point import SITE_SLACK
from protocol.study.study import Privacy
from tasks.base import Task
from tasks.flat_model import FlatModel
from tasks.schema import Column, Schema
from tests.client.hospital import in_child
from tests.narrowing import present

FEATURES = 6
PLAN = Privacy(
    mode="local", clip_norm=0.5, noise_multiplier=1.0, sampling_rate=0.5, epsilon=1.0, delta=1e-5
)


class Small(Task):
    name = "small"
    title = "two layers"
    schema = Schema((Column("a", "a number"),), "y", "a label")

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(FEATURES, 4), nn.Tanh(), nn.Linear(4, 1))


class Exploding(Small):
    def losses(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return 1e9 * outputs[:, 0] ** 4


class WithBatchNorm(Small):
    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(FEATURES, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))


def batch(size: int, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(size, FEATURES, generator=generator)
    return Batch(features, (features[:, 0] > 0).float())


def learner(memory: int = 1 << 30) -> DPTrainer:
    return DPTrainer(Small(), seed=3, memory=memory)


def reference_sum(model: FlatModel, data: Batch, clip_norm: float, scale: int) -> np.ndarray:
    """Clipped integer sum with one backward pass per patient: nothing of Opacus in it."""
    total = np.zeros(model.layout.size, dtype=np.int64)
    for row in range(len(data)):
        model.module.zero_grad()
        output = model.module(data.features[row : row + 1])
        Small().losses(output, data.labels[row : row + 1]).sum().backward()
        gradient = torch.cat([present(p.grad).reshape(-1) for p in model.parameters]).double()
        factor = min(1.0, clip_norm / float(gradient.norm()))
        total += np.rint((gradient * factor * (scale / clip_norm)).numpy()).astype(np.int64)
    return total


def test_clipped_sum_equals_one_backward_pass_per_patient() -> None:
    model = FlatModel(Small(), 3)
    ours = learner().clipped_sum(model.weights(), batch(17), 0.5, 4096)
    assert np.abs(ours - reference_sum(model, batch(17), 0.5, 4096)).max() <= 1


def test_parts_of_a_batch_add_up_to_the_whole() -> None:
    weights = FlatModel(Small(), 3).weights()
    whole = learner().clipped_sum(weights, batch(17), 0.5, 4096)
    in_parts = learner(memory=8 * len(weights) * 4).clipped_sum(weights, batch(17), 0.5, 4096)
    assert np.array_equal(whole, in_parts)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 12), st.integers(0, 10**6), st.floats(0.05, 5.0))
def test_one_patient_moves_the_sum_by_no_more_than_the_declared_sensitivity(
    size: int, seed: int, clip_norm: float
) -> None:
    """Trap: a mean or weighted loss breaks sensitivity; here neighbours are really compared."""
    weights, scale, one = FlatModel(Small(), seed % 7).weights(), 1024, _LEARNER
    data, more = batch(size, seed), batch(1, seed + 1)
    joined = Batch(
        torch.cat([data.features, more.features * 100]), torch.cat([data.labels, more.labels])
    )
    moved = one.clipped_sum(weights, joined, clip_norm, scale) - one.clipped_sum(
        weights, data, clip_norm, scale
    )
    assert np.linalg.norm(moved.astype(float)) <= scale + np.sqrt(len(weights)) / 2


_LEARNER = learner()


class Weighted(Small):
    class_weights = (1.0, 1000.0)


def test_class_weights_act_before_clipping_and_move_no_sum_further() -> None:
    weights, scale = FlatModel(Small(), 3).weights(), 1024
    weighing, data = DPTrainer(Weighted(), seed=3), batch(12)
    rare = Batch(data.features, torch.ones(12))
    with_one_more = weighing.clipped_sum(weights, rare, 0.5, scale)
    without = weighing.clipped_sum(weights, Batch(rare.features[1:], rare.labels[1:]), 0.5, scale)
    moved = np.linalg.norm((with_one_more - without).astype(float))
    assert moved <= scale + np.sqrt(len(weights)) / 2
    wide = 1e6  # nobody is clipped
    alike = learner().clipped_sum(weights, rare, wide, 2**30)
    times = weighing.clipped_sum(weights, rare, wide, 2**30)
    assert np.allclose(times, 1000 * alike.astype(float), rtol=1e-2, atol=2e4)
    common = Batch(data.features, torch.zeros(12))
    same = weighing.clipped_sum(weights, common, wide, 2**30)
    assert np.array_equal(same, learner().clipped_sum(weights, common, wide, 2**30))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e38])
def test_a_patient_with_a_bad_value_counts_as_zero(bad: float) -> None:
    weights = FlatModel(Small(), 3).weights()
    data = batch(5)
    spoiled = Batch(
        torch.cat([data.features, torch.full((1, FEATURES), bad)]),
        torch.cat([data.labels, torch.ones(1)]),
    )
    clean = learner().clipped_sum(weights, data, 0.5, 4096)
    with_bad = learner().clipped_sum(weights, spoiled, 0.5, 4096)
    if not np.isfinite(bad):
        assert np.array_equal(clean, with_bad)
    assert np.abs(with_bad).max() <= 6 * 4200


def test_a_bad_value_leaves_dp_sgd_finite() -> None:
    data = Batch(torch.full((3, FEATURES), float("nan")), torch.ones(3))
    weights = FlatModel(Small(), 3).weights()
    moved = learner().private_steps(weights, lambda: data, 3, 0.1, 4.0, PLAN)
    assert np.isfinite(moved).all()


def test_an_empty_sample_still_moves_by_noise_alone() -> None:
    """Trap: a site without a sampled patient must not be told apart, nor crash."""
    weights = FlatModel(Small(), 3).weights()
    assert not learner().clipped_sum(weights, batch(0), 0.5, 4096).any()
    site = learner()
    moved = [site.private_steps(weights, lambda: batch(0), 50, 1.0, 4.0, PLAN) for _ in range(20)]
    expected = PLAN.clip_norm * PLAN.noise_multiplier / 4.0 * np.sqrt(50)
    assert 0.8 * expected < np.std(moved) < 1.2 * expected


def test_the_denominator_is_public_whatever_the_batch() -> None:
    """Trap: q and the denominator must not follow the cohort (Opacus issues 571 and 819)."""
    weights = FlatModel(Small(), 3).weights()
    quiet = PLAN.model_copy(update={"noise_multiplier": 1e-9})
    one = learner().private_steps(weights, lambda: batch(8), 1, 1.0, 4.0, quiet)
    doubled = Batch(batch(8).features.repeat(2, 1), batch(8).labels.repeat(2))
    two = learner().private_steps(weights, lambda: doubled, 1, 1.0, 4.0, quiet)
    np.testing.assert_allclose(two, 2 * one, rtol=1e-4, atol=grid(PLAN.clip_norm, len(one)))


def test_noise_differs_though_torch_has_the_same_seed() -> None:
    """Trap: one seed over several rounds cancels the noise exactly."""
    weights = FlatModel(Small(), 3).weights()
    torch.manual_seed(0)
    np.random.seed(0)
    first = learner().private_steps(weights, lambda: batch(4), 1, 0.1, 4.0, PLAN)
    torch.manual_seed(0)
    np.random.seed(0)
    second = learner().private_steps(weights, lambda: batch(4), 1, 0.1, 4.0, PLAN)
    assert not np.allclose(first, second)


def test_noise_made_together_is_given_once() -> None:
    noise = Noise(expected=30)
    given = np.concatenate([noise(10), noise(10), noise(10), noise(7), noise(40)])
    assert len(set(given.tolist())) == 77


def test_a_noised_sum_lies_on_the_grid() -> None:
    """So that its low bits tell nothing of the sum (Mironov 2012)."""
    weights = np.zeros(FlatModel(Small(), 3).layout.size, dtype=np.float32)
    moved = learner().private_steps(weights, lambda: batch(8), 1, 1.0, 1.0, PLAN)
    steps = moved.astype(np.float64) / grid(PLAN.clip_norm, len(moved))
    assert (steps == np.rint(steps)).all()


def test_no_step_has_the_noise_of_another() -> None:
    """Twenty steps on nobody: were noise given twice, their sum would vary too much."""
    empty = Batch(torch.empty(0, FEATURES), torch.empty(0))
    model = learner()
    weights = model.model.weights()
    moved = np.concatenate(
        [model.private_steps(weights, lambda: empty, 20, 1.0, 4.0, PLAN) for _ in range(60)]
    )
    expected = PLAN.clip_norm * PLAN.noise_multiplier / 4.0 * np.sqrt(20)
    assert moved.std() == pytest.approx(expected, rel=0.1)


def test_noise_of_dp_sgd_has_the_deviation_it_claims() -> None:
    weights = FlatModel(Small(), 3).weights()
    moved = np.concatenate(
        [learner().private_steps(weights, lambda: batch(0), 1, 1.0, 4.0, PLAN) for _ in range(60)]
    )
    assert moved.std() == pytest.approx(PLAN.clip_norm * PLAN.noise_multiplier / 4.0, rel=0.1)


class Ones(Noise):
    """Noise of one deviation everywhere, so that what it is multiplied with can be read."""

    def __call__(self, count: int) -> Floats:
        return np.ones(count)


def test_noise_is_for_what_rounding_may_add_to_the_clip_norm() -> None:
    """A sum in float64 and its grid may move neighbouring sums apart by SITE_SLACK and SLACK."""
    weights = nn.Parameter(torch.zeros(50))
    optimiser = PatientOptimizer(
        Descent(weights, 1.0),
        Ones(50),
        noise_multiplier=3.0,
        max_grad_norm=2.0,
        expected_batch_size=1,
        loss_reduction="sum",
    )
    weights.summed_grad = torch.zeros(50, dtype=torch.float64)  # type: ignore[attr-defined]  # Opacus adds it
    optimiser.step()
    expected = -6 * (1 + SITE_SLACK + SLACK)
    np.testing.assert_allclose(weights.detach(), expected, atol=grid(2.0, 50))


class Wide(Small):
    """More weights than noise is made for at a time."""

    def model(self) -> nn.Module:
        return nn.Linear(300_000, 1)


@pytest.mark.slow
def test_every_weight_of_a_large_model_has_noise() -> None:
    model = DPTrainer(Wide(), seed=3)
    weights = model.model.weights()
    nobody = Batch(torch.empty(0, 300_000), torch.empty(0))
    moved = model.private_steps(weights, lambda: nobody, 1, 1.0, 4.0, PLAN)
    expected = PLAN.clip_norm * PLAN.noise_multiplier / 4.0
    for part in np.array_split(moved, 10):
        assert part.std() == pytest.approx(expected, rel=0.05)  # 12 deviations of the estimate


def test_dp_sgd_in_parts_is_one_step() -> None:
    """A batch larger than memory is clipped per patient, noised once, and divided once."""
    weights = FlatModel(Small(), 3).weights()
    quiet = PLAN.model_copy(update={"noise_multiplier": 1e-9})
    whole = learner().private_steps(weights, lambda: batch(17), 2, 0.5, 4.0, quiet)
    parts = learner(memory=8 * len(weights) * 4).private_steps(
        weights, lambda: batch(17), 2, 0.5, 4.0, quiet
    )
    np.testing.assert_allclose(parts, whole, rtol=1e-4, atol=1e-7)


def test_batchnorm_is_refused() -> None:
    """Trap: its running statistics take in raw data, even frozen."""
    with pytest.raises(WardroundError) as refused:
        DPTrainer(WithBatchNorm(), seed=0)
    assert refused.value.code is Code.CONFIGURATION
    assert "BatchNorm" in refused.value.remedy


def test_what_leaves_a_learner_holds_no_gradient_of_a_patient() -> None:
    """Trap: a pickled module carries p.grad_sample; a vector carries nothing."""
    weights = FlatModel(Small(), 3).weights()
    trained = learner()
    moved = trained.private_steps(weights, lambda: batch(8), 1, 0.1, 4.0, PLAN)
    assert type(moved) is np.ndarray
    assert moved.shape == weights.shape
    assert len(pickle.dumps(moved)) < 4 * moved.size + 300
    assert not any("_module" in name for name, _ in trained.model.layout.entries)


def test_plain_training_that_diverges_says_so() -> None:
    weights = FlatModel(Exploding(), 3).weights()
    with pytest.raises(WardroundError) as refused:
        DPTrainer(Exploding(), seed=3).plain_steps(weights, lambda: batch(3), 20, 1.0)
    assert refused.value.code is Code.DIVERGED


def test_plain_training_learns() -> None:
    weights, one = FlatModel(Small(), 3).weights(), learner()
    data = batch(200)
    moved = one.plain_steps(weights, lambda: data, 200, 1.0)
    scores = one.scores(weights + moved, data.features)
    assert ((scores > 0.5) == (data.labels.numpy() > 0.5)).mean() > 0.95


def test_a_forked_process_adds_noise_of_its_own() -> None:
    """Noise is made ahead: a copy of what lies ready would cancel."""
    noise = Noise(expected=1000)
    first = noise(10)

    def work(said: int) -> None:
        os.write(said, noise(100).tobytes())

    _, theirs = in_child(work)
    ours = noise(100)
    assert len(theirs) == ours.nbytes
    assert not np.isin(np.frombuffer(theirs), [*first, *ours]).any()


def test_a_sample_larger_than_the_memory_goes_through_in_parts() -> None:
    """The gradients of the parts add up to that of the whole sample."""
    data, weights = batch(33), learner().model.weights()
    whole = learner().plain_steps(weights, lambda: data, 3, 0.5)
    seen: list[int] = []
    small = learner(memory=200)
    small.model.module.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    parts = small.plain_steps(weights, lambda: data, 3, 0.5)
    np.testing.assert_allclose(parts, whole, atol=1e-6)
    assert 1 <= max(seen) < len(data)


def test_mixed_precision_is_near_and_not_the_same() -> None:
    data, weights = batch(16), learner().model.weights()
    whole = learner().plain_steps(weights, lambda: data, 3, 0.5)
    mixed = learner().plain_steps(weights, lambda: data, 3, 0.5, mixed=True)
    assert not np.array_equal(mixed, whole)
    np.testing.assert_allclose(mixed, whole, atol=0.05 * float(np.abs(whole).max()))
