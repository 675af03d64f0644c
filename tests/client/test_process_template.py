"""Forks of a template: quick, told apart from their caller, and ended with it or before."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from client.process_template import Fork, Template
from tests.waiting import until

HERE = __name__


@pytest.fixture
def template() -> Iterator[Template]:
    one = Template((HERE,))
    yield one
    one.close()


def parents(line: Connection) -> None:
    """Its template's number and its own; then it waits to be ended."""
    line.send((os.getppid(), os.getpid()))
    signal.pause()


def gone(number: int) -> bool:
    """Ended; a process that nobody has waited for yet has ended too."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def numbers(fork: Fork) -> tuple[int, int]:
    found: tuple[int, int] = fork.line.recv()
    return found


def test_forks_of_one_template_are_ended_one_by_one_and_what_is_left_with_it(
    template: Template,
) -> None:
    forks = [template.fork(parents) for _ in range(3)]
    (of, first), (_, second), (_, third) = map(numbers, forks)
    assert {gone(number) for number in (of, first, second, third)} == {False}
    forks[0].end()
    until(lambda: gone(first), "the first has ended")
    assert not gone(second)
    template.close()
    until(lambda: gone(second) and gone(third), "the others have ended")
    assert gone(of)
    forks[1].end()


def write(line: Connection, path: Path) -> None:
    path.touch()
    line.send((os.getppid(), os.getpid()))


def test_a_fork_that_has_ended_is_ended_again_in_vain(template: Template, tmp_path: Path) -> None:
    done = template.fork(write, tmp_path / "done")
    of, number = numbers(done)
    until(lambda: gone(number), "it has ended")
    done.end()
    again = template.fork(write, tmp_path / "again")
    assert numbers(again)[0] == of
    again.end()


def test_a_template_that_was_ended_from_outside_is_replaced(
    template: Template, tmp_path: Path
) -> None:
    fork = template.fork(write, tmp_path / "one")
    of, _ = numbers(fork)
    os.kill(of, signal.SIGKILL)
    fork.end()
    another = template.fork(write, tmp_path / "two")
    assert numbers(another)[0] != of
    another.end()


def test_an_idle_template_ends_and_one_with_a_fork_does_not(tmp_path: Path) -> None:
    template = Template((HERE,), idle=0.2)
    fork = template.fork(parents)
    of, number = numbers(fork)
    time.sleep(1.0)
    assert not gone(of)
    assert not gone(number)
    fork.end()
    until(lambda: gone(of), "it has ended")
    later = template.fork(write, tmp_path / "later")
    assert numbers(later)[0] != of
    template.close()
