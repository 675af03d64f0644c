"""The local MLflow server answers on loopback and never outlives whoever started it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from launch.demo import guard_process
from launch.demo.mlflow_server import MlflowServer
from protocol.errors import Code, WardroundError
from tests.waiting import HUNG, until

PARENT = """
import sys, time
from pathlib import Path
from launch.demo.mlflow_server import MlflowServer
server = MlflowServer(Path(sys.argv[1]))
server.start()
print(server.page, flush=True)
time.sleep(600)
"""


def _processes_naming(text: str) -> list[psutil.Process]:
    return [
        p for p in psutil.process_iter(["cmdline"]) if text in " ".join(p.info["cmdline"] or [])
    ]


def _listening(port: int) -> set[str]:
    """Addresses on which something listens on `port`."""
    found = psutil.net_connections("tcp")
    listening = [c.laddr for c in found if c.status == psutil.CONN_LISTEN]
    return {address.ip for address in listening if address and address.port == port}


def test_a_server_is_healthy_on_loopback_and_leaves_nothing(tmp_path: Path) -> None:
    home = tmp_path / "mlflow"
    with MlflowServer(home) as server:
        assert server.healthy(HUNG)
        port = int(server.page.rsplit(":", 1)[1])
        addresses = _listening(port)
        guarded = _processes_naming(str(home))
        tree = {q.pid for p in guarded for q in (p, *p.children(recursive=True))}
        with pytest.raises(WardroundError) as caught:
            MlflowServer(tmp_path / "second", port).start()
    assert addresses == {"127.0.0.1"}
    assert caught.value.code == Code.PORT_TAKEN
    assert str(port) in str(caught.value)
    assert len(tree) >= 2, "guard and server"
    assert not any(psutil.pid_exists(pid) for pid in tree)
    assert _listening(port) == set()
    assert server.database.exists()
    assert home.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("request_", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_server_outlives_its_parent(tmp_path: Path, request_: signal.Signals) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert parent.stdout is not None
    parent.stdout.readline()
    serving = f"launch.demo.mlflow_app {tmp_path}"
    until(lambda: len(_processes_naming(serving)) >= 2, "server and guard are there")
    parent.send_signal(request_)
    parent.wait()
    until(lambda: not _processes_naming(serving), "server and guard are gone")


def test_a_server_that_does_not_start_is_ended_and_said_with_its_log(tmp_path: Path) -> None:
    server = MlflowServer(tmp_path)
    server.database.mkdir()
    server.start()
    with pytest.raises(WardroundError) as caught:
        server.wait(timeout=0.5)
    assert caught.value.code == Code.TRACKING
    assert str(server.log) in str(caught.value)
    assert not _processes_naming(str(tmp_path))


def test_guard_ends_grandchildren_that_ignore_sigterm(tmp_path: Path) -> None:
    script = f"trap '' TERM; sleep 600 & echo $! > {tmp_path}/pid; wait; wait"
    process = subprocess.Popen(
        [sys.executable, "-I", guard_process.__file__, "bash", "-c", script], stdin=subprocess.PIPE
    )
    noted = tmp_path / "pid"
    until(lambda: noted.exists() and noted.read_text().strip(), "the grandchild is there")
    pid = int(noted.read_text())
    assert process.stdin is not None
    process.stdin.close()
    process.wait(HUNG)
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_guard_passes_the_exit_status_on() -> None:
    command = [
        sys.executable,
        "-I",
        guard_process.__file__,
        sys.executable,
        "-c",
        "raise SystemExit(3)",
    ]
    assert subprocess.Popen(command, stdin=subprocess.PIPE).wait(HUNG) == 3
