"""A long computation lets short answers go first, and no other."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest

from client.daemon.answers.precedence import LONG, SHORT, Precedence
from tests.waiting import HUNG


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Other:
    """An answer that another thread makes until it is told to end, or for a minute."""

    def __init__(self, precedence: Precedence) -> None:
        self._precedence, self._begun, self._end = precedence, threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._make)
        self._thread.start()
        assert self._begun.wait(HUNG)

    def _make(self) -> None:
        with self._precedence.answering():
            self._begun.set()
            self._end.wait(60)

    @property
    def goes_on(self) -> bool:
        return self._thread.is_alive()

    def end(self) -> None:
        self._end.set()
        self._thread.join()


def computing(precedence: Precedence, then: Callable[[], None]) -> threading.Thread:
    """A thread that answers, and calls `then` in it."""

    def compute() -> None:
        with precedence.answering():
            then()

    thread = threading.Thread(target=compute)
    thread.start()
    return thread


def test_who_computes_for_long_waits_for_another() -> None:
    """However long that takes by a clock that stands still."""
    clock = Clock()
    precedence, seen = Precedence(clock), list[str]()

    def compute() -> None:
        clock.now = LONG
        other = Other(precedence)

        def ended() -> None:
            seen.append("ended")
            other.end()

        end = threading.Timer(0.2, ended)
        end.start()
        precedence.give_way()
        seen.append("went on")
        end.join()

    computing(precedence, compute).join(HUNG)
    assert seen == ["ended", "went on"]


def test_who_began_not_long_ago_waits_for_nobody() -> None:
    clock = Clock()
    precedence, beside = Precedence(clock), list[bool]()

    def compute() -> None:
        clock.now = LONG / 2
        other = Other(precedence)
        precedence.give_way()
        beside.append(other.goes_on)
        other.end()

    computing(precedence, compute).join(HUNG)
    assert beside == [True]


def test_who_takes_longer_than_a_short_answer_is_not_waited_for() -> None:
    """Two studies that train for long go on side by side."""
    clock = Clock()
    precedence, beside = Precedence(clock), list[bool]()

    def compute() -> None:
        other = Other(precedence)
        clock.now = LONG
        assert LONG > SHORT
        precedence.give_way()
        beside.append(other.goes_on)
        other.end()

    computing(precedence, compute).join(HUNG)
    assert beside == [True]


class Endless(Precedence):
    """Among short answers one of which has always just begun."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self._hand, self.waits = clock, 0
        self._changed.wait = self._passed  # type: ignore[method-assign]  # no time is waited

    def _passed(self, timeout: float | None = None) -> bool:
        self._hand.now += timeout or 0.0
        self._began[0] = self._hand.now
        self.waits += 1
        assert self.waits < 1000
        return False


def test_short_answers_without_end_do_not_stop_a_computation() -> None:
    """It stands still for half of its time, by the clock."""
    clock = Clock()
    precedence, steps = Endless(clock), 100

    def compute() -> None:
        precedence._began[0] = 0.0
        for _ in range(steps):
            clock.now += 0.1
            precedence._began[0] = clock.now
            precedence.give_way()

    computing(precedence, compute).join(HUNG)
    assert 0.45 < 0.1 * steps / clock.now <= 0.55
    assert precedence.waits > 0


def test_a_computation_goes_on_where_threads_have_no_priority(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", refused)
    clock = Clock()
    precedence, went_on = Precedence(clock), threading.Event()

    def compute() -> None:
        clock.now = LONG
        precedence.give_way()
        went_on.set()

    computing(precedence, compute).join(HUNG)
    assert went_on.is_set()


def test_a_long_computation_has_a_lower_priority_and_the_daemon_its_own() -> None:
    clock = Clock()
    precedence = Precedence(clock)
    usual, seen = os.getpriority(os.PRIO_PROCESS, 0), list[int]()

    def compute() -> None:
        for clock.now in (LONG / 2, LONG, 2 * LONG):
            precedence.give_way()
            seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    computing(precedence, compute).join(HUNG)
    assert seen == [usual, min(19, usual + 10), min(19, usual + 10)]
    assert os.getpriority(os.PRIO_PROCESS, 0) == usual


def test_who_makes_no_answer_gives_way_to_nobody() -> None:
    precedence = Precedence(Clock())
    other = Other(precedence)
    precedence.give_way()
    other.end()
