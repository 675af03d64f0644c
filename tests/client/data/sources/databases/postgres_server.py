"""A real PostgreSQL server of Debian's, of this test session's own: free port, own folder.

PostgreSQL refuses to run as root; there it runs as the user `postgres` of Debian's package.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

PASSWORD = "CANARY-password"
USER = "wardround"


def _binaries() -> Path:
    """Where initdb is; installs Debian's package where it is not."""
    for _ in range(2):
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        if found:
            return found[-1].parent
        if here := shutil.which("initdb"):
            return Path(here).resolve().parent
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(["apt-get", "install", "-y", "-qq", "postgresql"], check=True)
    raise RuntimeError("PostgreSQL could not be installed")


class Server:
    """Running from the constructor on, until `stop`."""

    def __init__(self) -> None:
        self._bin = _binaries()
        self._as = []
        if os.geteuid() == 0:
            self._as = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        self.folder = Path(tempfile.mkdtemp(prefix="wr-pg-"))
        if self._as:
            shutil.chown(self.folder, "postgres", "postgres")
        self.folder.chmod(0o755)
        password = self.folder / "password"
        password.write_text(PASSWORD + "\n")
        password.chmod(0o644)
        self._run("initdb", "-D", self._data, "-A", "scram-sha-256", "-U", USER, "-N",
                  f"--pwfile={password}", "-E", "UTF8", "--locale=C")  # fmt: skip
        password.unlink()
        self.start()

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as, str(self._bin / program), *arguments]
        subprocess.run(command, check=True, capture_output=True, cwd="/")

    def start(self) -> None:
        """Listens on a Unix socket in its folder alone: no port to collide on."""
        options = f"-c listen_addresses='' -k {self.folder} -c fsync=off -c shared_buffers=16MB"
        self._run("pg_ctl", "-D", self._data, "-w", "-t", "60", "-l", str(self.folder / "log"),
                  "-o", options, "start")  # fmt: skip

    def stop(self) -> None:
        """At once, as a power cut would; connections break."""
        self._run("pg_ctl", "-D", self._data, "-w", "-m", "immediate", "stop")

    def remove(self) -> None:
        pid = Path(self._data) / "postmaster.pid"
        if pid.exists():
            os.kill(int(pid.read_text().split()[0]), signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def sql(self, text: str) -> str:
        """Runs a script as the owner; what it prints."""
        return self._psql("-c", text)

    def file(self, path: Path) -> str:
        """Runs a longer script out of a file."""
        return self._psql("-f", str(path))

    def _psql(self, *what: str) -> str:
        command = [str(self._bin / "psql"), "-h", str(self.folder), "-U", USER, "-d", "postgres",
                   "-v", "ON_ERROR_STOP=1", "-Atq", *what]  # fmt: skip
        done = subprocess.run(
            command, check=True, capture_output=True, env={"PGPASSWORD": PASSWORD}, text=True
        )
        return done.stdout.strip()
