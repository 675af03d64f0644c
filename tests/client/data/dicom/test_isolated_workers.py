"""Workers: a file that crashes or hangs costs that file and nothing else."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from client.data.dicom import isolated_workers
from client.data.dicom.isolated_workers import isolated
from tests.waiting import NEVER, until


def work(job: int, folder: Path) -> str:
    (folder / f"begun {job}").touch()
    if job % 10 == 3:
        os.kill(os.getpid(), signal.SIGSEGV)
    if job % 10 == 7:
        signal.pause()
    if job % 10 == 9:
        try:
            bytearray(1 << 40)
        except MemoryError:
            return "no memory"
    os.write(2, b"a decoder's complaint")
    return f"done {job}"


def tell(monkeypatch: pytest.MonkeyPatch, time: Callable[[], float]) -> None:
    """The workers' clock, which moves as a test says and not while the machine is busy."""
    monkeypatch.setattr(isolated_workers, "time", SimpleNamespace(monotonic=time))


def test_every_job_is_answered_once(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    jobs = [job for job in range(20) if job % 10 != 7]
    answers = isolated(
        work, (tmp_path,), jobs, workers=2, seconds=NEVER, memory=1 << 30,
        slow="slow", crashed="crashed",
    )  # fmt: skip
    expected = {n: f"done {n}" for n in jobs}
    expected |= {3: "crashed", 13: "crashed", 9: "no memory", 19: "no memory"}
    assert sorted(answers) == sorted(expected.items())
    assert "complaint" not in capfd.readouterr().err


def test_a_job_that_hangs_is_slow_and_the_rest_is_done(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Time passes only while one hangs."""
    now, over = 0.0, list[int]()

    def time() -> float:
        nonlocal now
        if any((tmp_path / f"begun {job}").exists() for job in (7, 17) if job not in over):
            now += 1.0
        return now

    tell(monkeypatch, time)
    answers = isolated(
        work, (tmp_path,), range(20), workers=1, seconds=0.1, memory=1 << 30,
        slow="slow", crashed="crashed",
    )  # fmt: skip
    answered = {}
    for job, answer in answers:
        answered[job] = answer
        if answer == "slow":
            over.append(job)
    assert sorted(over) == [7, 17]
    assert [answered[job] for job in (6, 8, 16, 18)] == ["done 6", "done 8", "done 16", "done 18"]
    assert len(answered) == 20


def test_a_job_that_was_done_in_time_is_not_slow_because_its_answer_was_read_late(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    now = 0.0
    tell(monkeypatch, lambda: now)
    answers = isolated(
        work, (tmp_path,), [0, 1, 2], workers=1, seconds=1.0, memory=1 << 30,
        slow="slow", crashed="crashed",
    )  # fmt: skip
    assert next(answers) == (0, "done 0")
    until((tmp_path / "begun 2").exists, "the answer to 1 has been sent")
    now = 10.0
    assert list(answers) == [(1, "done 1"), (2, "done 2")]


def test_nothing_to_do_starts_nothing(tmp_path: Path) -> None:
    nothing: list[int] = []
    answers = isolated(
        work, (tmp_path,), nothing, workers=2, seconds=NEVER, memory=1 << 30, slow="", crashed=""
    )
    assert list(answers) == []
