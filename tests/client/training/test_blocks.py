"""No bit of what is computed for a patient depends on another, or the model is refused."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from client.training.blocks import ALONE, FIXED, LANES, Blocks
from client.training.dp_trainer import DPTrainer
from client.training.independence import dependent_layer
from client.training.per_patient_gradients import PatientGradients
from client.training.sampling import Batch
from protocol.errors import Code, WardroundError
from tasks.flat_model import FlatModel
from tests.client.training.test_bookkeeping import Recurrent, Residual, batch, random, task


@settings(max_examples=60, deadline=None)
@given(
    patients=st.integers(0, 70),
    blocks=st.sampled_from([ALONE, FIXED, Blocks(4, 4), Blocks(4, 32), LANES]),
)
def test_blocks_hold_every_patient_once_and_zeros_else(patients: int, blocks: Blocks) -> None:
    data, rows, labels = batch(patients, 3), [], []
    for block, count in blocks.of(data):
        size = len(block)
        assert size % blocks.multiple == 0
        assert 0 < count <= size <= blocks.largest
        assert not block.features[count:].any()
        rows.append(block.features[:count])
        labels.append(block.labels[:count])
    assert torch.equal(torch.cat([*rows, torch.zeros(0, 3)]), data.features)
    assert torch.equal(torch.cat([*labels, torch.zeros(0)]), data.labels)


def test_a_block_begins_at_an_aligned_address() -> None:
    """A kernel treats the first values before a register's address in another way."""
    unaligned = Batch(random(0, 200, 3)[1:], torch.zeros(199))
    for block, _ in Blocks(4, 64).of(unaligned):
        assert block.features.data_ptr() % 64 == 0


def test_memory_makes_blocks_smaller_but_never_of_another_multiple() -> None:
    assert LANES.within(200) == Blocks(64, 192)
    assert LANES.within(3) == Blocks(64, 64)
    assert LANES.within(10**9) == LANES


class Dropping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(6, 8), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        dropped = nn.functional.dropout(torch.tanh(self.inner(x)), 0.5)
        outputs: Tensor = self.head(dropped)
        return outputs


class Centring(Dropping):
    """Looks at the other patients, too little to be seen by a comparison with autograd."""

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.head(torch.tanh(self.inner(x)) + 1e-6 * x.mean().detach())
        return outputs


def test_a_model_that_looks_at_other_patients_gets_to_see_none() -> None:
    made = task(Centring)
    gradients = PatientGradients(made, FlatModel(made, 1))
    assert gradients.settle(random(0, 64, 6)) is None
    assert gradients.blocks((6,)) == ALONE


class Remembering(Dropping):
    """Thinks of the patients that it saw before, even when it sees one at a time."""

    before: Tensor | float = 0.0

    def forward(self, x: Tensor) -> Tensor:
        inner, self.before = torch.tanh(self.inner(x)) + 1e-6 * self.before, x.mean().detach()
        outputs: Tensor = self.head(inner)
        return outputs


def test_a_model_that_remembers_other_patients_is_refused_by_layer() -> None:
    for trains in (True, False):
        with pytest.raises(WardroundError) as refused:
            DPTrainer(task(Remembering), 1).try_out(
                random(0, 64, 6), trains=trains, in_floats=False
            )
        assert refused.value.code is Code.CONFIGURATION
        assert f"what reaches {'head.weight' if trains else 'outputs'}" in str(refused.value)


def test_a_model_that_draws_at_random_is_refused_by_layer() -> None:
    with pytest.raises(WardroundError) as refused:
        DPTrainer(task(Dropping), 1).try_out(random(0, 64, 6), in_floats=False)
    assert refused.value.code is Code.CONFIGURATION
    assert "Dropping draws at random" in str(refused.value)
    assert refused.value.remedy


def test_batches_as_large_as_their_sample_are_found_out() -> None:
    """What the check is there for, with a kernel that finishes a batch as real ones do: its last
    rows, for which a register of eight is too wide, are added up in another order."""

    def scores(block: Batch) -> dict[str, Tensor]:
        rows = block.features
        tail = torch.arange(len(rows)) >= len(rows) // 8 * 8
        columns = rows.unbind(1)
        usual, late = reduce(torch.add, columns), reduce(torch.add, columns[::-1])
        return {"scores": torch.where(tail, late, usual)[:, None]}

    assert dependent_layer(scores, Blocks(1, 4096), torch.zeros(1), random(0, 2048, 27)) == "scores"
    assert dependent_layer(scores, Blocks(8, 4096), torch.zeros(1), random(0, 2048, 27)) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("built", "shape"),
    [
        (lambda: nn.Linear(27, 1), (27,)),
        (lambda: nn.Linear(13, 3), (13,)),
        (lambda: nn.Sequential(nn.Linear(30, 9), nn.SiLU(), nn.Linear(9, 1)), (30,)),
        (lambda: nn.Sequential(nn.Unflatten(1, (2, 9, 8)), Residual()), (144,)),
        (Recurrent, (6,)),
    ],
)
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), patients=st.integers(2, 90))
def test_terms_and_scores_are_the_same_in_any_company(
    built: Callable[[], nn.Module], shape: tuple[int, ...], seed: int, patients: int
) -> None:
    """Integers that one patient adds alone are those that it adds to any sum; its score, too."""
    made, scale = task(built), 1 << 20
    learner = DPTrainer(made, 1)
    learner.try_out(random(0, 64, *shape), in_floats=False)
    learner.model.flat.mul_(torch.exp(3 * random(seed, learner.model.layout.size)))
    weights = learner.model.weights()
    data = batch(patients, *shape)
    at = seed % patients
    others = torch.arange(patients) != at
    one = Batch(data.features[at : at + 1], data.labels[at : at + 1])
    rest = Batch(data.features[others], data.labels[others])
    together = learner.clipped_sum(weights, data, 1.0, scale)
    alone, without = (learner.clipped_sum(weights, some, 1.0, scale) for some in (one, rest))
    np.testing.assert_array_equal(together, alone + without)
    scores = learner.scores(weights, data.features)
    assert scores[at] == learner.scores(weights, one.features)[0]
    np.testing.assert_array_equal(scores[others.numpy()], learner.scores(weights, rest.features))


def test_a_model_too_large_for_the_memory_is_computed_patient_by_patient() -> None:
    made = task(lambda: nn.Sequential(nn.Unflatten(1, (2, 9, 8)), Residual()))
    model = FlatModel(made, 1)
    plenty = PatientGradients(made, model).blocks((144,))
    tight = PatientGradients(made, FlatModel(made, 1), memory=1000).blocks((144,))
    assert (plenty, tight) == (FIXED, ALONE)
