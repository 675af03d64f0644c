"""NVFlare as it comes: provisioned startup kits, mutual TLS, one process a party.

It is installed from `nvflare_app/constraints.txt` into an environment of its own, since it wants
other releases of what we use. Its server and each client start one more process for a job. The job
is its own FedAvg in NumPy, whose clients return what they were sent.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from launch.demo.child_process import GuardedProcess
from launch.demo.local_ports import free_port
from peers.command import checked

APP = Path(__file__).with_name("nvflare_app")
RELEASE = "2.9.0"
_READY, _LONGEST = 60.0, 900.0
_PROJECT = """\
api_version: 3
name: bench
participants:
  - {{name: localhost, type: server, org: bench, fed_learn_port: {port}, admin_port: {admin}}}
{clients}
  - {{name: admin@bench.org, type: admin, org: bench, role: project_admin}}
builders:
  - path: nvflare.lighter.impl.workspace.WorkspaceBuilder
    args: {{template_file: [master_template.yml]}}
  - path: nvflare.lighter.impl.static_file.StaticFileBuilder
    args: {{config_folder: config, scheme: grpc}}
  - path: nvflare.lighter.impl.cert.CertBuilder
  - path: nvflare.lighter.impl.signature.SignatureBuilder
"""


def environment(folder: Path) -> Path:
    """The interpreter of an environment with NVFlare, which is made where it is missing. Raises
    RuntimeError where it cannot be installed."""
    python = folder / "bin" / "python3"
    if not (folder / "installed").exists():
        packages = ["--requirement", str(APP / "constraints.txt")]
        _checked("python -m venv", [sys.executable, "-m", "venv", str(folder)])
        _checked("pip install nvflare", [str(python), "-m", "pip", "install", "-q", *packages])
        (folder / "installed").touch()
    return python


class NvFlare:
    """A server and `sites` clients in `folder`. A context manager."""

    def __init__(self, folder: Path, sites: int, python: Path) -> None:
        self.folder, self.sites, self._python = folder, sites, python
        path = f"{python.parent}{os.pathsep}{os.environ.get('PATH', '')}"
        self._env = {"PATH": path, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
        self._stack, self._jobs = ExitStack(), 0

    def __enter__(self) -> Self:
        clients = [f"site-{k + 1}" for k in range(self.sites)]
        lines = [f"  - {{name: {name}, type: client, org: bench}}" for name in clients]
        project = self.folder / "project.yml"
        self.folder.mkdir()
        project.write_text(
            _PROJECT.format(port=free_port(), admin=free_port(), clients="\n".join(lines))
        )
        command = [str(self._python.with_name("nvflare")), "provision", "--force"]
        _checked("nvflare provision", [*command, "-p", str(project), "-w", str(self.folder)])
        with ExitStack() as stack:
            self._server = self._start(stack, "localhost")
            for name in clients:
                self._start(stack, name)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def coordinator(self) -> int:
        """The process of which all others of the server descend."""
        return self._server.pid

    def run(self, rounds: int, parameters: int, every: float | None = None) -> list[float]:
        """The times at which the rounds of one job began, as the first client saw it. every: the
        seconds of both its polling intervals. Raises RuntimeError with
        what was logged."""
        self._jobs += 1
        job = self.folder / f"job{self._jobs}"
        marks = self.folder / f"marks{self._jobs}"
        marks.touch()
        numbers = {"sites": self.sites, "rounds": rounds, "parameters": parameters}
        words = [f"--{name}={number}" for name, number in numbers.items()]
        words += [f"--marks={marks}", *([] if every is None else [f"--every={every}"])]
        admin = str(self._kit("admin@bench.org"))
        script = [str(self._python), str(APP / "run_job.py"), admin, str(job), *words]
        deadline = time.monotonic() + _READY
        while True:
            try:
                _checked("the job", script, self._env)
                break
            except RuntimeError as error:
                if time.monotonic() > deadline or job.exists():
                    raise RuntimeError(f"{error}\n{self._tails()}") from None
            time.sleep(1)
        times = [float(line) for line in marks.read_text().splitlines() if line != "end"]
        if len(times) != rounds:
            raise RuntimeError(f"{len(times)} of {rounds} rounds were seen.\n{self._tails()}")
        return times

    def _kit(self, party: str) -> Path:
        return self.folder / "bench" / "prod_00" / party

    def _start(self, stack: ExitStack, party: str) -> GuardedProcess:
        program = ["bash", str(self._kit(party) / "startup" / "sub_start.sh"), "--once"]
        process = GuardedProcess(program, self.folder / f"{party}.log", self._env)
        stack.callback(process.stop)
        return process

    def _tails(self) -> str:
        logs = sorted(self.folder.glob("*.log"))
        return "\n".join(f"== {log.name}\n{log.read_text()[-800:]}" for log in logs)


def _checked(what: str, command: list[str], env: dict[str, str] | None = None) -> None:
    checked(f"NVFlare {RELEASE}: {what}", command, env or {}, _LONGEST)
