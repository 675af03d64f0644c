"""A daemon that is started by hand leaves no core file."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from client.cli import daemon, imaging
from launch.cli.coordinator import running

_PROCESS = """
import ctypes, os, resource, signal, sys
from protocol.core_dumps import forbid_core_dumps

resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
forbid_core_dumps()
print(resource.getrlimit(resource.RLIMIT_CORE))
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) if sys.platform == "linux" else 0)
"""


def test_a_process_leaves_no_core_and_shows_its_memory_to_nobody() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROCESS], capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[:2] == ["(0, 0)", "0"]


class _Asked(Exception):
    pass


@pytest.mark.parametrize(
    ("module", "start"),
    [(daemon, daemon.start), (imaging, imaging.receive), (running, running.start)],
)
def test_every_daemon_forbids_them_before_it_reads_anything(
    module: ModuleType, start: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked() -> None:
        raise _Asked

    monkeypatch.setattr(module, "forbid_core_dumps", asked)
    with pytest.raises(_Asked):
        start(Path("nowhere"))
