"""A real MariaDB server of Debian's, of this test session's own: free port, own folder."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

PASSWORD = "CANARY-password"
USER = "wardround"


def _program(name: str) -> str:
    """Where a program of the server is; installs Debian's package where it is not."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"
    for _ in range(2):
        if found := shutil.which(name, path=path):
            return found
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "mariadb-server"]
        subprocess.run(command, check=True)
    raise RuntimeError("MariaDB could not be installed")


class Server:
    """Running from the constructor on, until `stop`. It lets USER in by TCP and by its socket."""

    def __init__(self) -> None:
        self._daemon, self._as = _program("mariadbd"), []
        self.folder = Path(tempfile.mkdtemp(prefix="wr-my-"))
        if os.geteuid() == 0:
            self._as = ["setpriv", "--reuid=mysql", "--regid=mysql", "--clear-groups"]
            shutil.chown(self.folder, "mysql", "mysql")
        self.folder.chmod(0o755)
        self.socket = self.folder / "socket"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        install = [_program("mariadb-install-db"), "--no-defaults", "--skip-test-db",
                   f"--datadir={self._data}",
                   "--auth-root-authentication-method=normal"]  # fmt: skip
        subprocess.run([*self._as, *install], check=True, capture_output=True, cwd="/")
        self.start()
        self.sql(f"CREATE USER {USER} IDENTIFIED BY '{PASSWORD}'; CREATE DATABASE ward;"
                 f" GRANT SELECT ON ward.* TO {USER}")  # fmt: skip

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def start(self) -> None:
        self._process = subprocess.Popen(
            [*self._as, self._daemon, "--no-defaults", f"--datadir={self._data}",
             f"--socket={self.socket}", "--bind-address=127.0.0.1", f"--port={self.port}",
             "--skip-name-resolve", "--innodb-buffer-pool-size=16M"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
        )  # fmt: skip
        while True:  # the test's time limit is this loop's
            try:
                self.sql("SELECT 1")
            except subprocess.CalledProcessError:
                assert self._process.poll() is None
                time.sleep(0.2)
            else:
                return

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> None:
        """At once, as a power cut would; connections break."""
        os.kill(self.pid, signal.SIGKILL)
        self._process.wait()

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def sql(self, text: str) -> str:
        """Runs a script as root; what it prints."""
        command = [_program("mariadb"), "--no-defaults", "-S", str(self.socket), "-uroot", "-N",
                   "-e", text]  # fmt: skip
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return done.stdout.strip()
