"""The server's learning rate over rounds, computed by hand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from protocol.study.algorithms import Constant, Cosine, Step
from protocol.study.schedules import factor

Schedules = Constant | Cosine | Step


def course(schedule: Schedules, rounds: int) -> list[float]:
    return [factor(schedule, round_, rounds) for round_ in range(1, rounds + 1)]


def test_constant_is_constant() -> None:
    assert course(Constant(), 3) == [1.0, 1.0, 1.0]


def test_cosine_falls_from_one_along_one_half_period() -> None:
    """cos 0, 45, 90, 135 degrees."""
    assert course(Cosine(), 4) == pytest.approx([1.0, 0.853553, 0.5, 0.146447], abs=1e-6)


def test_cosine_ends_at_its_floor() -> None:
    assert course(Cosine(floor=0.2), 2) == pytest.approx([1.0, 0.6])


def test_steps_fall_after_every_so_many_rounds() -> None:
    assert course(Step(every=2, factor=0.1), 5) == pytest.approx([1, 1, 0.1, 0.1, 0.01])


def test_warm_up_rises_linearly_and_the_course_begins_after_it() -> None:
    assert course(Cosine(warmup=2), 4) == pytest.approx([0.5, 1.0, 1.0, 0.5])
    assert course(Step(warmup=1, every=1, factor=0.5), 4) == pytest.approx([1.0, 1.0, 0.5, 0.25])


def test_cosine_agrees_with_torchs_own() -> None:
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    torchs = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=10, eta_min=0.3)
    for ours in course(Cosine(floor=0.3), 10):
        assert ours == pytest.approx(torchs.get_last_lr()[0])
        optimiser.step()
        torchs.step()


@given(
    st.one_of(
        st.builds(Constant, warmup=st.integers(0, 30)),
        st.builds(Cosine, warmup=st.integers(0, 30), floor=st.floats(0, 1)),
        st.builds(Step, warmup=st.integers(0, 30), every=st.integers(1, 9)),
    ),
    st.integers(1, 40),
)
def test_a_rate_is_never_above_the_optimisers_own_nor_below_zero(
    schedule: Schedules, rounds: int
) -> None:
    assert all(0 <= value <= 1 for value in course(schedule, rounds))
