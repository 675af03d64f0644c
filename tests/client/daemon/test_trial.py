"""A daemon hears of its self-check from another process, and holds no numerical library itself."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest

from client.daemon import trial
from client.daemon.trial import Trial
from client.log_events import LOGGER
from protocol.errors import Code, WardroundError
from tests.client.hospital import policy


def test_what_the_other_process_found_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    Trial.begin(policy(tasks=("breast_cancer", "dicom_dose"))).end()
    assert [record.getMessage() for record in caplog.records] == ["self-check passed"]
    assert vars(caplog.records[0])["task"] == "breast_cancer"


@pytest.mark.parametrize(
    ("rules", "code"),
    [
        ({"tasks": ("no_such_task",)}, Code.UNKNOWN_TASK),
        ({"memory": "256 MiB"}, Code.CONFIGURATION),
    ],
)
def test_a_policy_that_cannot_be_served_ends_the_start(
    rules: dict[str, object], code: Code
) -> None:
    with pytest.raises(WardroundError) as caught:
        Trial.begin(policy(**rules)).end()
    assert caught.value.code is code


def test_a_check_that_is_killed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "tried", lambda policy: os.kill(os.getpid(), 9))
    with pytest.raises(WardroundError, match=r"ended before it had an answer \(status -9\)"):
        Trial.begin(policy()).end()


def test_an_idle_daemon_holds_no_numerical_library() -> None:
    code = "import sys, client.daemon.daemon; print({'torch', 'duckdb', 'pandas'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
