"""Which questions are answered at the same time, and which in their turn."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest

from client.daemon.answers.workers import Workers
from client.transport.fleet_connection import IncomingMessage
from protocol.wire.messages import Close, Collect, Frame, Prepare, frame
from tests.waiting import HUNG, NEVER, until

MOST = 2


def asked(study: int, kind: str = "prepare", attempt: int = 1) -> IncomingMessage:
    place: dict[str, Any] = {"study": f"{study:064x}", "round": 1, "attempt": attempt}
    if kind == "prepare":
        content = frame(Prepare(**place, train=True, evaluate=False, model="0" * 64))
    elif kind == "collect":
        content = frame(Collect(**place, readys=()))
    else:
        content = frame(Close(study=place["study"], outcome="failed"))
    return IncomingMessage(
        content, f"{study} {kind} {attempt}", cast(Any, SimpleNamespace(ttl=NEVER))
    )


class Answers:
    """Answers that are begun at once, and end when a test lets them."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []
        self._ends: dict[str, threading.Event] = {}

    def __call__(self, question: IncomingMessage) -> None:
        self.begun.append(question.message_id)
        assert self._end(question.message_id).wait(HUNG)
        self.ended.append(question.message_id)

    def end(self, *names: str) -> None:
        for name in names:
            self._end(name).set()
            until(partial(self.ended.__contains__, name), f"{name} has ended")

    def _end(self, name: str) -> threading.Event:
        return self._ends.setdefault(name, threading.Event())


@contextmanager
def working(answers: Answers) -> Iterator[Workers]:
    with Workers(answers, MOST) as workers:
        yield workers
        for name in [*answers.begun]:
            answers.end(name)
        until(lambda: not workers.busy, "all is answered")


def begun(answers: Answers, *names: str) -> None:
    until(lambda: set(names) <= set(answers.begun), f"{names} have begun")


def test_a_study_that_trains_holds_up_no_other() -> None:
    answers = Answers()
    with working(answers) as workers:
        workers.take(asked(1))
        begun(answers, "1 prepare 1")
        for kind in ("prepare", "collect", "close"):
            workers.take(asked(2, kind))
            answers.end(f"2 {kind} 1")
        assert answers.ended == ["2 prepare 1", "2 collect 1", "2 close 1"]


def test_questions_about_one_study_are_answered_in_order() -> None:
    answers = Answers()
    with working(answers) as workers:
        for kind in ("prepare", "collect", "close"):
            workers.take(asked(1, kind))
        workers.take(asked(2, "close"))
        answers.end("2 close 1")
        assert set(answers.begun) == {"1 prepare 1", "2 close 1"}
        answers.end("1 prepare 1", "1 collect 1", "1 close 1")
        assert answers.begun[-2:] == ["1 collect 1", "1 close 1"]


def test_so_many_studies_compute_at_once_and_no_more_and_sums_wait_for_none() -> None:
    answers = Answers()
    with working(answers) as workers:
        for study in (1, 2, 3):
            workers.take(asked(study))
        begun(answers, "1 prepare 1", "2 prepare 1")
        workers.take(asked(4, "collect"))
        answers.end("4 collect 1")
        assert "3 prepare 1" not in answers.begun
        answers.end("2 prepare 1")
        begun(answers, "3 prepare 1")


def test_no_more_is_fetched_than_can_be_in_hand() -> None:
    answers = Answers()
    with working(answers) as workers:
        while workers.has_room(0):
            workers.take(asked(len(answers.begun), attempt=len(answers.begun) + 1))
            assert len(answers.begun) <= 24
            workers.take(asked(1000, "close"))
        for _ in range(40):
            until(lambda: len(answers.begun) > len(answers.ended) or not workers.busy, "more")
            answers.end(*(n for n in [*answers.begun] if n not in answers.ended))
        assert workers.has_room(0)


def test_what_an_answer_raises_ends_the_daemon() -> None:
    rested = threading.Event()

    def failing(_: IncomingMessage) -> None:
        raise OSError("a bug")

    with Workers(failing, MOST, rest=rested.set) as workers:
        workers.take(IncomingMessage(Frame(b"no message"), "x", cast(Any, None)))
        assert rested.wait(HUNG)
        with pytest.raises(OSError, match="a bug"):
            workers.has_room(HUNG)


def test_a_thread_that_computes_gives_the_interpreter_away_soon() -> None:
    """Tens of times an answer waits for it; at Python's own 5 ms that would be a third of a second
    beside a study that trains."""
    usual = sys.getswitchinterval()
    with working(Answers()):
        assert sys.getswitchinterval() <= usual / 10
    assert sys.getswitchinterval() == usual


def test_what_waits_for_its_turn_to_compute_keeps_its_place() -> None:
    """A sum of a study waits for the study's own earlier question, though that waits for others."""
    answers = Answers()
    with working(answers) as workers:
        for study in (1, 2, 3):
            workers.take(asked(study))
        workers.take(asked(3, "collect"))
        begun(answers, "1 prepare 1", "2 prepare 1")
        workers.take(asked(4, "collect"))
        begun(answers, "4 collect 1")
        assert "3 collect 1" not in answers.begun
        answers.end("1 prepare 1")
        begun(answers, "3 prepare 1")
        assert "3 collect 1" not in answers.begun
        answers.end("3 prepare 1")
        begun(answers, "3 collect 1")
