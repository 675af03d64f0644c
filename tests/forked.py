"""Processes forked from a server that has imported the heavy packages once.

PyTorch, Opacus, SciPy and Flower take an interpreter seconds of the processor to import; a fork has
them. All else is as if it had been executed: arguments, environment, folder, signals, process
group, output. What a process imports and how much memory it takes is for tests that execute it.
"""

from __future__ import annotations

import atexit
import functools
import json
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

from tests.waiting import HUNG

ROOMS = (
    "tests.forked",
    "client.cli.main",
    "client.daemon.site",
    "client.daemon.daemon",
    "client.training.bookkeeping",
    "launch.cli.main",
)
"""Imported before anything is forked, with all that they import: PyTorch and Flower with a site's
daemon, Opacus and SciPy with the bookkeeping, which every self-check needs."""


_SERVER = threading.Lock()
"""It says once how a process ended, to whoever asks first; a start asks for all of them."""


def child(
    target: Callable[..., object], *args: Any, imported: Sequence[str] = ROOMS
) -> BaseProcess:
    """A function's process, started. imported: by the server, which the first call starts."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(imported))
    process = context.Process(target=target, args=args)
    with _SERVER:
        process.start()
    return process


class Python:
    """`[sys.executable, ...]` or a console script, in a process group of its own.

    Its output is appended to the files `out` and `err`; standard input is empty. env: all of its
    environment, None for ours. imported: as `child` takes it.
    """

    def __init__(
        self,
        words: Sequence[str | Path],
        folder: Path,
        out: Path,
        err: Path,
        env: Mapping[str, str] | None = None,
        imported: Sequence[str] = ROOMS,
    ) -> None:
        environment = dict(os.environ if env is None else env)
        said = [str(word) for word in words]
        for file in (out, err):
            file.touch(0o600)  # whoever waits for its first word may look now
        files = (str(folder), environment, str(out), str(err))
        self._process = child(become, said, *files, _installed(), imported=imported)
        pid = self._process.pid
        assert pid is not None
        self.pid = pid

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        with _SERVER:
            return self._process.exitcode

    def wait(self, timeout: float = HUNG) -> int:
        """Raises subprocess.TimeoutExpired."""
        connection.wait([self._process.sentinel], timeout)
        if (status := self.poll()) is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout)
        return status

    @property
    def running(self) -> bool:
        return self.poll() is None

    def send_signal(self, number: int) -> None:
        if self.running:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()

    def stop(self) -> int:
        """SIGTERM, where it runs; its exit status."""
        if self.running:
            self._process.terminate()
        return self.wait()


def run(
    words: Sequence[str | Path],
    folder: Path,
    env: Mapping[str, str] | None = None,
    timeout: float = HUNG,
    imported: Sequence[str] = ROOMS,
) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run` with its output captured. Raises subprocess.TimeoutExpired, with the
    process ended."""
    with TemporaryDirectory() as said:
        out, err = Path(said) / "out", Path(said) / "err"
        process = Python(words, folder, out, err, env, imported)
        try:
            status = process.wait(timeout)
        finally:
            process.kill()
        return subprocess.CompletedProcess(words, status, out.read_text(), err.read_text())


@functools.cache
def _installed() -> list[str]:
    """sys.path of an interpreter without PYTHONPATH, without its script's folder."""
    words = [sys.executable, "-P", "-c", "import json, sys; print(json.dumps(sys.path))"]
    without = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    said = subprocess.run(words, env=without, capture_output=True, text=True, check=True).stdout
    found: list[str] = json.loads(said)
    return found


# --- in the forked process ---
def become(
    words: list[str],
    folder: str,
    env: dict[str, str],
    out: str,
    err: str,
    installed: list[str],
) -> None:
    """What an interpreter does with its words."""
    os.setpgid(0, 0)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    for path, number in ((out, 1), (err, 2)):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(descriptor, number)
        os.close(descriptor)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    first, *rest = words[1:] if words[0] == sys.executable else words
    named = rest.pop(0) if first == "-m" else None
    code = rest.pop(0) if first == "-c" else None
    sys.argv = [first, *rest]
    asked = [path for path in env.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [folder if named or code else str(Path(first).parent), *asked, *installed]
    try:
        if named:
            runpy.run_module(named, run_name="__main__", alter_sys=True)
        elif code:
            main = sys.modules["__main__"] = ModuleType("__main__")
            exec(code, main.__dict__)  # noqa: S102 (a test's own)
        else:
            runpy.run_path(first, run_name="__main__")
    finally:
        atexit._run_exitfuncs()
