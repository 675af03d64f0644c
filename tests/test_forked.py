"""What a forked process shares with one that was executed, and what it does not."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.forked import Python, run
from tests.waiting import until

_SHOWS = """
import atexit, json, os, sys
from client.cli import main
atexit.register(print, "at exit")
shown = [sys.argv, os.getcwd(), dict(os.environ), sys.path[:2], os.getpgid(0) == os.getpid()]
print(json.dumps([*shown, "torch" in sys.modules, sys.stdin.read()]))
sys.exit("a last word")
"""


def test_it_has_its_own_words_folder_environment_and_group(tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": "/nowhere"}
    done = run([sys.executable, "-c", _SHOWS, "a", "b"], tmp_path, env)
    shown, ended = done.stdout.splitlines()
    folder = str(tmp_path)
    assert json.loads(shown) == [
        ["-c", "a", "b"],
        folder,
        env,
        [folder, "/nowhere"],
        True,
        True,
        "",
    ]
    assert ended == "at exit"
    assert (done.returncode, done.stderr) == (1, "a last word\n")


def test_a_script_and_a_module_run_as_main(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import sys; print(__name__, sys.argv[1:], sys.path[0])")
    asked = run([script, "x"], tmp_path)
    assert asked.stdout == f"__main__ ['x'] {tmp_path}\n"
    assert run([sys.executable, "-m", "script", "y"], tmp_path).stdout == asked.stdout.replace(
        "x", "y"
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_it_and_is_its_status(tmp_path: Path, number: signal.Signals) -> None:
    out = tmp_path / "out"
    code = "import time; print('here', flush=True); time.sleep(1e6)"
    process = Python([sys.executable, "-c", code], tmp_path, out, out)
    until(lambda: out.read_text() == "here\n", "it runs")
    process.send_signal(number)
    assert process.wait() == -number
    assert not process.running
