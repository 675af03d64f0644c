"""Workers: a file that crashes or hangs costs that file and nothing else."""

from __future__ import annotations

import os
import signal
import time

import pytest

from client.data.dicom.isolated_workers import isolated


def work(job: int) -> str:
    if job % 10 == 3:
        os.kill(os.getpid(), signal.SIGSEGV)
    if job % 10 == 7:
        time.sleep(600)
    if job % 10 == 9:
        try:
            bytearray(1 << 40)
        except MemoryError:
            return "no memory"
    os.write(2, b"a decoder's complaint")
    return f"done {job}"


def test_every_job_is_answered_once(capfd: pytest.CaptureFixture[str]) -> None:
    jobs = list(range(20))
    answers = dict(
        isolated(
            work, (), jobs, workers=2, seconds=1.0, memory=1 << 30,
            slow="slow", crashed="crashed",
        )
    )  # fmt: skip
    expected = {n: f"done {n}" for n in jobs}
    expected |= {3: "crashed", 13: "crashed", 7: "slow", 17: "slow"}
    expected |= {9: "no memory", 19: "no memory"}
    assert answers == expected
    assert "complaint" not in capfd.readouterr().err


def test_nothing_to_do_starts_nothing() -> None:
    nothing: list[int] = []
    answers = isolated(work, (), nothing, workers=2, seconds=1.0, slow="", crashed="")
    assert list(answers) == []
