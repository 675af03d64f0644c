"""A daemon hears of its self-check from another process, and holds no numerical library itself.

A daemon forks before it has loaded any; so do the processes here.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

_TRIED = """
import json, logging, os, sys
from client.daemon import trial
from client.log_events import LOGGER
from protocol.errors import WardroundError
from tests.client.hospital import policy

heard = []
logger = logging.getLogger(LOGGER)
logger.setLevel(logging.INFO)
handler = logging.Handler()
handler.emit = heard.append
logger.addHandler(handler)
rules = json.loads(sys.argv[1])
if rules.pop("killed", False):
    trial.tried = lambda policy: os.kill(os.getpid(), 9)
assert "torch" not in sys.modules
try:
    trial.Trial.begin(policy(**rules)).end()
    print(json.dumps([[one.getMessage(), vars(one)["task"]] for one in heard]))
except WardroundError as error:
    print(json.dumps([error.code.value, error.message]))
"""


def tried(**rules: object) -> list[Any]:
    """What a daemon with such a policy logs of its self-check, or the code and text of its end."""
    command = [sys.executable, "-c", _TRIED, json.dumps(rules)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_what_the_other_process_found_is_logged() -> None:
    assert tried(tasks=["breast_cancer", "dicom_dose"]) == [["self-check passed", "breast_cancer"]]


@pytest.mark.parametrize(
    ("rules", "code"),
    [({"tasks": ["no_such_task"]}, "unknown_task"), ({"memory": "256 MiB"}, "configuration")],
)
def test_a_policy_that_cannot_be_served_ends_the_start(rules: dict[str, object], code: str) -> None:
    assert tried(**rules)[0] == code


def test_a_check_that_is_killed_is_told() -> None:
    code, why = tried(killed=True)
    assert code == "configuration"
    assert "ended before it had an answer (status -9)" in why


def test_an_idle_daemon_holds_no_numerical_library() -> None:
    code = "import sys, client.daemon.daemon; print({'torch', 'duckdb', 'pandas'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
