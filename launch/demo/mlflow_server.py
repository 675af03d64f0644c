"""A local MLflow server on SQLite: loopback only and behind a password, for the demo, the tests and
one person's laptop.

A hospital network's MLflow is run by its operators (`deploy/`); this one lives exactly as long as
the process that started it.
"""

from __future__ import annotations

import contextlib
import secrets
import sys
import time
from pathlib import Path
from typing import Self
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, build_opener

from launch.demo.child_process import GuardedProcess
from launch.demo.local_ports import LOOPBACK, free_port
from launch.demo.mlflow_app import PASSWORD, USER, read_password
from protocol import durable_files
from protocol.errors import Code, WardroundError
from protocol.extras import Extra, require

_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_ENABLE_WORKSPACES": "false",
}
_DIRECT = build_opener(ProxyHandler({}))


class MlflowServer:
    """Starts, watches and ends one MLflow server; a context manager.

    `home` gets `mlflow.db`, `artifacts/`, `server.log` and, once, `password`; it is readable by its
    owner only. With `port` 0 a free one is taken; it is kept over `stop` and `start`.
    """

    def __init__(self, home: Path, port: int = 0) -> None:
        self._home = home.resolve()
        self._port = port
        self._process: GuardedProcess | None = None

    @property
    def url(self) -> str:
        """What goes into `tracking.uri`: with user and password; known once `start` was called."""
        return f"http://{USER}:{read_password(self._home)}@{LOOPBACK}:{self._port}"

    @property
    def page(self) -> str:
        """What a person opens in a browser, which asks for user and password."""
        return f"http://{LOOPBACK}:{self._port}"

    @property
    def login(self) -> str:
        """How a person logs in, in words; the password itself is shown nowhere."""
        return f"Log in as {USER} with the password in {self.password}."

    @property
    def password(self) -> Path:
        return self._home / PASSWORD

    @property
    def log(self) -> Path:
        return self._home / "server.log"

    @property
    def database(self) -> Path:
        return self._home / "mlflow.db"

    @property
    def artifacts(self) -> Path:
        return self._home / "artifacts"

    def start(self) -> None:
        """Starts the server and returns at once; `wait` says when it is healthy (some seconds).

        Raises WardroundError: CONFIGURATION where MLflow is not installed, PORT_TAKEN where the
        port asked for is in use, TRACKING where others can read the password.
        """
        require(Extra.MLFLOW)
        self._home.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self._port = free_port(self._port)
        except OSError:
            raise WardroundError(
                Code.PORT_TAKEN,
                f"Port {self._port} on {LOOPBACK} is in use, so MLflow cannot start there.",
                remedy="End what listens there, or choose another --port (0 takes a free one).",
            ) from None
        with contextlib.suppress(FileExistsError):
            durable_files.write(
                self.password, f"{secrets.token_urlsafe(24)}\n".encode(), replace=False
            )
        read_password(self._home)
        command = [sys.executable, "-P", "-m", "launch.demo.mlflow_app"]
        command += [str(self._home), str(self._port)]
        self._process = GuardedProcess(command, self.log, _QUIET, cwd=self._home)

    def wait(self, timeout: float = 120.0) -> str:
        """Waits until the server is healthy; its URL.

        Raises WardroundError(TRACKING), with the server ended, where it is not within `timeout`
        seconds.
        """
        deadline = time.monotonic() + timeout
        while self._process is not None and self._process.running:
            if self.healthy():
                return self.url
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        self.stop()
        raise WardroundError(
            Code.TRACKING,
            f"The MLflow server did not start on {self.page}.",
            remedy=f"Its log is {self.log}.",
        )

    def healthy(self, timeout: float = 1.0) -> bool:
        """Whether the server answers, by asking for the password, within `timeout` seconds."""
        try:
            _DIRECT.open(f"{self.page}/health", timeout=timeout).close()
        except HTTPError as answer:
            return answer.code == 401
        except (URLError, OSError):
            pass
        return False

    def stop(self) -> None:
        """Ends the server and its workers (one or two seconds); harmless where none runs."""
        process, self._process = self._process, None
        if process is not None:
            process.stop()

    def __enter__(self) -> Self:
        self.start()
        try:
            self.wait()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
