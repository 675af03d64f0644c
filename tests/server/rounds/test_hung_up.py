"""A study that is cancelled while a share is added up: its body is freed under the reader."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping

import pytest

from launch.federations.inprocess import InProcessFederation, InProcessFleet
from protocol.wire import messages
from protocol.wire.messages import Frame
from server.rounds.listener import Listeners
from server.rounds.proposal import Patience
from server.rounds.round_loop import RoundLoop
from server.transport.link_state import ReadOnceChunks
from tests.server.rounds.test_participants import COHORTS, TASK, with_grace


class HungUp(InProcessFleet):
    """In round 2 the study is cancelled just when the share of `north` is there."""

    def __init__(self, federation: InProcessFederation) -> None:
        super().__init__(federation._fleet._sites)
        self.cancelled = threading.Event()

    def ask(
        self, frames: Mapping[str, Frame], timeout: float
    ) -> Iterator[tuple[str, Frame | None]]:
        for site, answer in super().ask(frames, timeout):
            asked = messages.parse(frames[site])
            if isinstance(asked, messages.Collect) and asked.round == 2 and site == "north":
                assert answer is not None
                body = ReadOnceChunks(answer.body)
                self.cancelled.set()
                body.clear()  # as `FleetRun.close` does in the thread of whoever cancels
                answer = Frame(answer.header, body)
            yield site, answer


def test_a_study_that_is_cancelled_in_the_middle_of_a_share_is_cancelled() -> None:
    federation = InProcessFederation(COHORTS)
    fleet = HungUp(federation)
    loop = RoundLoop(
        with_grace(None), TASK, fleet, federation.roster, Listeners(),
        patience=Patience(join=0.0, poll=0.0), cancelled=fleet.cancelled.is_set,
    )  # fmt: skip
    try:
        with pytest.raises(KeyboardInterrupt):
            loop.run()
    except LookupError:
        pytest.fail("The freed body is taken for an error of the study.")
    assert loop.model.round == 1
