"""The global random streams belong to one thread at a time."""

from __future__ import annotations

import threading

import torch

from tasks.random_streams import _ONE_AT_A_TIME, own_streams
from tests.waiting import HUNG


def drawn(seed: int) -> float:
    with own_streams(seed):
        return float(torch.rand(()))


def test_two_threads_draw_what_each_draws_alone() -> None:
    alone, other, free = drawn(1), list[float](), list[bool]()

    def draw() -> None:
        free.append(_ONE_AT_A_TIME.acquire(blocking=False))
        asked.set()
        other.append(drawn(2))

    between, asked = threading.Thread(target=draw, daemon=True), threading.Event()
    with own_streams(1):
        between.start()
        assert asked.wait(HUNG)
        beside = float(torch.rand(()))
    between.join(HUNG)
    assert (beside, other, free) == (alone, [drawn(2)], [False])


def test_the_streams_are_restored() -> None:
    before = torch.random.get_rng_state()
    with own_streams(1), own_streams(2):
        torch.rand(3)
    assert torch.equal(torch.random.get_rng_state(), before)
