"""One site sends garbage: it spoils its attempt at most, and is named as far as can be told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pytest

from launch.federations.inprocess import InProcessFleet
from protocol.errors import Code
from protocol.study.study import Study
from protocol.wire import messages
from protocol.wire.messages import Frame, Ready, Share
from server.rounds.listener import Listeners
from server.rounds.proposal import Patience
from server.rounds.round_loop import RoundLoop
from tasks import registry
from tests.attack.simulated import TASK, Federation, cohorts, study_of

LIAR = "site2"
Change = Callable[[messages.Answer, Frame], Frame]


def header(_: messages.Answer, frame: Frame) -> Frame:
    return Frame(b"\x00garbage", frame.body)


def renamed(message: messages.Answer, frame: Frame) -> Frame:
    if isinstance(message, Ready):
        return messages.frame(message.model_copy(update={"site": "site0"}))
    return messages.frame(message.model_copy(update={"attempt": 9}), frame.body)


def unsigned(message: messages.Answer, frame: Frame) -> Frame:
    return messages.frame(message.model_copy(update={"signature": "0" * 128}))


def shifted(message: messages.Answer, frame: Frame) -> Frame:
    words = np.frombuffer(b"".join(bytes(c) for c in frame.body), np.uint32) + np.uint32(1)
    return messages.frame(message, [words.tobytes()])


def cut(message: messages.Answer, frame: Frame) -> Frame:
    return messages.frame(message, [b"".join(bytes(c) for c in frame.body)[:-4]])


def endless(message: messages.Answer, frame: Frame) -> Frame:
    return messages.frame(message, [b"".join(bytes(c) for c in frame.body) * 2])


Kind = type[Ready] | type[Share]
LIES: dict[str, tuple[Kind, Change, bool]] = {
    # name: (which answer, what becomes of it, whether the attempt is lost)
    "a Ready that is none": (Ready, header, False),
    "a Ready in another's name": (Ready, renamed, False),
    "a Ready without signature": (Ready, unsigned, False),
    "a share that is none": (Share, header, True),
    "a share of another attempt": (Share, renamed, True),
    "a share one off": (Share, shifted, True),
    "a share cut short": (Share, cut, True),
    "a share twice as long": (Share, endless, True),
}


class Lying(InProcessFleet):
    """One site lies once, in the second attempt."""

    def __init__(self, federation: Federation, kind: Kind, change: Change) -> None:
        super().__init__(federation.sites)
        self._kind, self._change = kind, change

    def ask(
        self, frames: Mapping[str, Frame], timeout: float
    ) -> Iterator[tuple[str, Frame | None]]:
        for site, frame in super().ask(frames, timeout):
            if site == LIAR and frame is not None:
                message = messages.parse(frame)
                if isinstance(message, self._kind) and message.attempt == 2:
                    frame = self._change(message, frame)
            yield site, frame


class Losses(Listeners):
    """Remembers what was lost."""

    def __init__(self) -> None:
        super().__init__()
        self.lost_attempts: list[tuple[int, str]] = []

    def lost(self, round_: int, attempt: int, why: str) -> None:
        self.lost_attempts.append((attempt, why))


@pytest.fixture(scope="module")
def study() -> Study:
    spare = "aggregation.spare_attempts=3"
    return study_of(cohorts(4), "privacy=distributed", "privacy.epsilon=5", "rounds=3", spare)


@pytest.mark.parametrize("name", LIES)
def test_one_lie_costs_one_attempt_at_most(study: Study, name: str) -> None:
    kind, change, lost = LIES[name]
    federation, listener = Federation.of(cohorts(4)), Losses()
    outcome = RoundLoop(
        study,
        registry.load(TASK),
        Lying(federation, kind, change),
        federation.roster,
        listener,
        patience=Patience(answer=5.0, join=0.0, poll=0.0),
    ).run()
    assert outcome.status == "finished"
    assert [report.round for report in outcome.rounds] == [1, 2, 3]
    assert [attempt for attempt, _ in listener.lost_attempts] == ([2] if lost else [])
    assert federation.governance["site0"].debits == list(range(1, 6 if lost else 5))
    if name in ("a share cut short", "a share twice as long"):
        assert LIAR in listener.lost_attempts[0][1], "a wrong length names the site"
    if name == "a share one off":
        assert "guards" in listener.lost_attempts[0][1]
        assert "site" not in listener.lost_attempts[0][1].replace("each site", ""), "names nobody"
    assert not any(
        e.code == Code.INTERNAL for g in federation.governance.values() for e in g.errors
    )
