"""The global random streams belong to one thread at a time."""

from __future__ import annotations

import threading

import torch

from tasks.random_streams import own_streams
from tests.waiting import HUNG


def drawn(seed: int) -> float:
    with own_streams(seed):
        return float(torch.rand(()))


def test_two_threads_draw_what_each_draws_alone() -> None:
    alone, other = drawn(1), list[float]()
    between = threading.Thread(target=lambda: other.append(drawn(2)), daemon=True)
    with own_streams(1):
        between.start()
        between.join(0.5)
        beside = float(torch.rand(()))
    between.join(HUNG)
    assert (beside, other) == (alone, [drawn(2)])


def test_the_streams_are_restored() -> None:
    before = torch.random.get_rng_state()
    with own_streams(1), own_streams(2):
        torch.rand(3)
    assert torch.equal(torch.random.get_rng_state(), before)
