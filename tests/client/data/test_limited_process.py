"""Work in a process of its own: the kernel bounds its memory and time, and its caller's end is
its own."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

from client.data.limited_process import ProcessEndedError, limited
from client.process_template import template
from protocol.errors import Code, WardroundError

ROOM = 256 << 20


def test_what_is_made_there_comes_back() -> None:
    made = limited(np.full, ROOM, 60.0, (2_000_000,), 1.5)
    assert (made.sum(), len(made)) == (3_000_000.0, 2_000_000)


def refuse(what: str) -> None:
    raise WardroundError(Code.NO_DATA, what, remedy="none", rule="r")


def test_an_error_comes_back_whole() -> None:
    with pytest.raises(WardroundError) as caught:
        limited(refuse, ROOM, 60.0, "nothing")
    error = caught.value
    assert (error.code, error.message, error.remedy) == (Code.NO_DATA, "nothing", "none")
    assert (error.rule, error.__cause__) == ("r", None)


def hold(size: int) -> int:
    return len(bytes(size))


def test_memory_is_bounded_from_the_start_of_the_work_on() -> None:
    assert limited(hold, ROOM, 60.0, ROOM // 2) == ROOM // 2
    with pytest.raises(MemoryError):
        limited(hold, ROOM, 60.0, 2 * ROOM)


def sleep() -> None:
    while True:
        time.sleep(1.0)


def test_time_is_bounded() -> None:
    with pytest.raises(ProcessEndedError) as caught:
        limited(sleep, ROOM, 0.2)
    assert caught.value.late


def test_an_end_for_its_time_is_known_however_late_the_caller_looks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wait = Connection.poll

    def poll(line: Connection, timeout: float) -> bool:
        there = wait(line, timeout)
        time.sleep(0.5)  # by now it has ended
        return there

    monkeypatch.setattr(Connection, "poll", poll)
    with pytest.raises(ProcessEndedError) as caught:
        limited(sleep, ROOM, 0.1)
    assert caught.value.late


def crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def test_a_crash_is_told_and_the_next_work_is_done() -> None:
    with pytest.raises(ProcessEndedError) as caught:
        limited(crash, ROOM, 60.0)
    assert not caught.value.late
    assert limited(hold, ROOM, 60.0, 1) == 1


def surroundings() -> tuple[str | None, str, tuple[int, int], int]:
    cores = resource.getrlimit(resource.RLIMIT_CORE)
    templates = template.cache_info().currsize
    return os.environ.get("WARDROUND_TOLD"), os.getcwd(), cores, templates


def test_environment_and_folder_are_the_callers_and_its_memory_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller has a template's socket in its memory; a fork of the caller would have it too."""
    limited(hold, ROOM, 60.0, 1)
    monkeypatch.setenv("WARDROUND_TOLD", "later")
    monkeypatch.chdir(tmp_path)
    assert limited(surroundings, ROOM, 60.0) == ("later", str(tmp_path), (0, 0), 0)


def test_several_at_once() -> None:
    with ThreadPoolExecutor(4) as pool:
        sizes = list(pool.map(lambda n: limited(hold, ROOM, 60.0, n), range(12)))
    assert sizes == list(range(12))


def write_pid_and_sleep(path: str) -> None:
    Path(path + ".part").write_text(str(os.getpid()))
    Path(path + ".part").rename(path)
    sleep()


def test_it_ends_with_its_caller(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    code = (
        "from client.data.limited_process import limited\n"
        "from tests.client.data.test_limited_process import write_pid_and_sleep\n"
        f"limited(write_pid_and_sleep, 1 << 28, 600.0, {str(path)!r})\n"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as caller:
        while not path.exists():
            assert caller.poll() is None
            time.sleep(0.05)
        caller.kill()
    pid = int(path.read_text())
    while Path(f"/proc/{pid}").exists():  # the test's time limit is this loop's
        time.sleep(0.05)
