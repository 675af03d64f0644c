"""Each algorithm against its paper's update rule, step by step with a pencil.

One weight w, gradient w - label (`tests.client.quadratic`), so that every number can be followed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from client.training.algorithms.ditto import Ditto
from client.training.algorithms.fedavg import Correction, FedAvg
from client.training.algorithms.fedbn import FedBN
from client.training.algorithms.fedprox import FedProx
from client.training.algorithms.scaffold import Scaffold
from client.training.dp_trainer import DPTrainer
from client.training.local_steps import adjusting
from client.training.sampling import Batch
from protocol.errors import Code, WardroundError
from protocol.study import algorithms as documents
from protocol.study.study import Privacy
from protocol.vectors import Vector
from tasks.flat_model import FlatModel
from tasks.models.normalisation import normalisation
from tests.client.quadratic import Normalised, Quadratic, labelled

CLIPPING = Privacy(
    mode="local", clip_norm=0.4, noise_multiplier=1e-9, sampling_rate=1.0, epsilon=1.0, delta=1e-5
)


def vector(*values: float) -> Vector:
    return np.array(values, dtype=np.float32)


def plain(data: Batch, steps: int = 2, lr: float = 0.1) -> Callable[..., Vector]:
    learner = DPTrainer(Quadratic(), 0)

    def run(start: Vector, correction: Correction | None = None) -> Vector:
        return learner.plain_steps(start, lambda: data, steps, lr, adjusting(correction))

    return run


def private(data: Batch, steps: int = 2, lr: float = 0.1) -> Callable[..., Vector]:
    learner = DPTrainer(Quadratic(), 0)

    def run(start: Vector, correction: Correction | None = None) -> Vector:
        return learner.private_steps(
            start, lambda: data, steps, lr, 1.0, CLIPPING, adjusting(correction)
        )

    return run


def test_fedavg_takes_the_steps_as_they_are() -> None:
    """McMahan et al. 2017: 2 - 0.1 (2 - 1) = 1.9; 1.9 - 0.1 (1.9 - 1) = 1.81."""
    trained = FedAvg().train(vector(2.0), None, plain(labelled(1.0)))
    assert trained.difference == pytest.approx([-0.19], rel=1e-5)
    assert trained.control is None
    assert trained.own is None


def test_fedprox_draws_each_step_back_to_the_model_of_the_round() -> None:
    """Li et al. 2020, equation 2, mu = 0.5: 2 - 0.1 (1 + 0) = 1.9;
    1.9 - 0.1 (0.9 + 0.5 (1.9 - 2)) = 1.9 - 0.085 = 1.815."""
    trained = FedProx(0.5).train(vector(2.0), None, plain(labelled(1.0)))
    assert trained.difference == pytest.approx([-0.185], rel=1e-5)


def test_fedprox_is_added_after_clipping() -> None:
    """Clip norm 0.4: 2 - 0.1 * 0.4 = 1.96; then the gradient 0.96 is clipped to 0.4, and the
    proximal 0.5 (1.96 - 2) = -0.02 is not: 1.96 - 0.1 * 0.38 = 1.922. Inside the loss, the sum
    0.94 would have been clipped to 0.4 again and ended at 1.92."""
    trained = FedProx(0.5).train(vector(2.0), None, private(labelled(1.0)))
    assert trained.difference == pytest.approx([-0.078], rel=1e-4)


def test_scaffold_corrects_each_step_and_moves_its_variate_by_option_two() -> None:
    """Karimireddy et al. 2020, Algorithm 1: x = 1, c = 0.2, c_i = -0.1, label 0, K = 2, lr = 0.1.

    y = 1 - 0.1 (1 + 0.2 + 0.1) = 0.87; y = 0.87 - 0.1 (0.87 + 0.3) = 0.753.
    c_i+ = -0.1 - 0.2 + (1 - 0.753) / 0.2 = 0.935. Sent: 0.2 (0.935 + 0.1) = 0.207."""
    trained = Scaffold(0.2).train(vector(1.0, 0.2), vector(-0.1), plain(labelled(0.0)))
    assert trained.difference == pytest.approx([-0.247], rel=1e-5)
    assert trained.own == pytest.approx([0.935], rel=1e-5)
    assert trained.control == pytest.approx([0.207], rel=1e-5)


def test_scaffold_begins_with_a_variate_of_zero() -> None:
    """y = 1 - 0.1 = 0.9; y = 0.9 - 0.09 = 0.81; c_i+ = 0.19 / 0.2 = 0.95."""
    trained = Scaffold(0.2).train(vector(1.0, 0.0), None, plain(labelled(0.0)))
    assert trained.difference == pytest.approx([-0.19], rel=1e-5)
    assert trained.own == pytest.approx([0.95], rel=1e-5)


def test_scaffold_corrects_a_private_step_after_clipping() -> None:
    """Clip norm 0.4, c - c_i = 0.3: y = 1 - 0.1 (0.4 + 0.3) = 0.93, then 0.86. The variate is made
    of the private difference alone: c_i+ = -0.1 - 0.2 + 0.14 / 0.2 = 0.4."""
    trained = Scaffold(0.2).train(vector(1.0, 0.2), vector(-0.1), private(labelled(0.0)))
    assert trained.difference == pytest.approx([-0.14], rel=1e-4)
    assert trained.own == pytest.approx([0.4], rel=1e-4)


def test_fedbn_sends_zero_for_its_own_layers_and_goes_on_from_them() -> None:
    """Li et al. 2021, Algorithm 1: of four coordinates the middle two are normalisation."""
    kept = np.array([False, True, True, False])
    seen = []

    def steps(start: Vector, correction: Correction | None = None) -> Vector:
        seen.append(start)
        return vector(0.1, 0.2, 0.3, 0.4)

    bn = FedBN(kept)
    trained = bn.train(vector(1, 2, 3, 4), vector(9, 7, 8, 9), steps)
    assert seen[0] == pytest.approx([1, 7, 8, 4])
    assert trained.difference == pytest.approx([0.1, 0, 0, 0.4])
    assert trained.own is not None
    assert bn.scored(vector(5, 5, 5, 5), trained.own) == pytest.approx([5, 7.2, 8.3, 5])
    assert bn.scored(vector(5, 5, 5, 5), None) == pytest.approx([5, 5, 5, 5])


def test_normalisation_layers_are_found_in_the_flat_vector() -> None:
    model = FlatModel(Normalised(), 0)
    named = {
        name: normalisation(model)[start : start + size].all()
        for (name, start, size) in _places(model)
    }
    assert {name for name, own in named.items() if own} == {
        "1.weight", "1.bias", "3.weight", "3.bias",
    }  # fmt: skip
    assert normalisation(model).sum() == 16


def _places(model: FlatModel) -> list[tuple[str, int, int]]:
    places, start = [], 0
    for name, shape in model.layout.entries:
        size = int(np.prod(shape))
        places.append((name, start, size))
        start += size
    return places


def test_fedbn_without_normalisation_layers_says_so() -> None:
    with pytest.raises(WardroundError) as refused:
        FedBN.over(FlatModel(Quadratic(), 0))
    assert refused.value.code is Code.REFUSED_STUDY
    assert "GroupNorm" in refused.value.remedy


def ditto(**plan: object) -> Ditto:
    return Ditto(
        documents.DittoOptions.model_validate({"attraction": 0.5, "steps": 2, "lr": 0.1} | plan)
    )


def test_ditto_draws_its_own_model_to_the_shared_one() -> None:
    """Li et al. 2021, Algorithm 1, lambda = 0.5, w = 1, v = 0, label 1:
    v = 0 - 0.1 ((0 - 1) + 0.5 (0 - 1)) = 0.15; v = 0.15 - 0.1 (-0.85 - 0.425) = 0.2775."""
    learner = DPTrainer(Quadratic(), 0)
    data = labelled(1.0)

    def own_steps(start: Vector, steps: int, lr: float, correction: Correction) -> Vector:
        return learner.plain_steps(start, lambda: data, steps, lr, adjusting(correction))

    assert ditto().beside(vector(1.0), vector(0.0), own_steps) == pytest.approx([0.2775], rel=1e-5)


def test_ditto_shares_the_plain_difference_and_scores_as_the_study_says() -> None:
    """v takes no part in what leaves: the same difference as FedAvg's, whatever v is."""
    one, other = (
        ditto().train(vector(2.0), own, plain(labelled(1.0))).difference
        for own in (None, vector(50.0))
    )
    assert one == other == pytest.approx([-0.19], rel=1e-5)
    assert ditto().scored(vector(1.0), vector(2.0)) == vector(1.0)
    assert ditto(evaluated="personal").scored(vector(1.0), vector(2.0)) == vector(2.0)
    assert ditto().personal(vector(1.0), vector(2.0)) == vector(2.0)
