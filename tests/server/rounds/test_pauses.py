"""How long a study waits before it tries a lost round again."""

from __future__ import annotations

from server.rounds.proposal import Patience
from server.rounds.round_loop import pause


def test_one_loss_costs_no_time() -> None:
    assert pause(0, 0.5) == pause(1, 0.5) == 0


def test_a_cause_of_some_seconds_does_not_use_up_the_failures_that_a_study_bears() -> None:
    patience = Patience()
    waited = sum(pause(losses, patience.poll) for losses in range(1, patience.failures))
    assert waited > 10


def test_no_pause_is_longer_than_a_minute() -> None:
    pauses = [pause(losses, 0.5) for losses in range(101)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == 60
