"""The global random streams belong to one thread at a time."""

from __future__ import annotations

import sys
import threading

import torch

from tasks.random_streams import own_streams
from tests.waiting import HUNG


def drawn(seed: int) -> float:
    with own_streams(seed):
        return float(torch.rand(()))


def test_two_threads_draw_what_each_draws_alone() -> None:
    alone, found, often = [drawn(1), drawn(2)], dict[int, set[float]](), sys.getswitchinterval()
    both = threading.Barrier(2)

    def draw(seed: int) -> None:
        both.wait(HUNG)
        found[seed] = {drawn(seed) for _ in range(500)}

    threads = [threading.Thread(target=draw, args=(seed,), daemon=True) for seed in (1, 2)]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(HUNG)
    finally:
        sys.setswitchinterval(often)
    assert found == {1: {alone[0]}, 2: {alone[1]}}


def test_the_streams_are_restored() -> None:
    before = torch.random.get_rng_state()
    with own_streams(1), own_streams(2):
        torch.rand(3)
    assert torch.equal(torch.random.get_rng_state(), before)
