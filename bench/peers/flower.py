"""Flower as it comes: `flower-superlink` and `flower-supernode`, over TLS with node authentication.

Every process runs Flower's defaults, is a child of this one, and ends with it.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from sysconfig import get_path
from typing import Self

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from launch.demo.child_process import GuardedProcess, script
from launch.demo.local_ports import free_port
from peers.command import checked
from server.enrolment.certificates import Pki

APP = Path(__file__).with_name("flower_app")
_QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "OMP_NUM_THREADS": "1",
    "NO_COLOR": "1",
}
_READY = 60.0


class StockFlower:
    """A SuperLink and `sites` SuperNodes in `folder`. A context manager."""

    def __init__(self, folder: Path, sites: int) -> None:
        self.folder, self.sites = folder, sites
        path = f"{get_path('scripts')}{os.pathsep}{os.environ.get('PATH', '')}"
        self.env = {**_QUIET, "PATH": path, "FLWR_HOME": str(folder / "flwr")}
        self._stack = ExitStack()
        self._nodes: list[GuardedProcess] = []
        self._blocks = 0

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        with ThreadPoolExecutor(self.sites) as pool:  # each takes seconds to end
            list(pool.map(GuardedProcess.stop, self._nodes))
        self._stack.close()

    @property
    def coordinator(self) -> int:
        """The process of which all others of the SuperLink descend."""
        return self._superlink.pid

    def run(
        self, rounds: int, parameters: int = 14, *, evaluate: bool = True, limit: float = 600.0
    ) -> list[float]:
        """The times at which one `flwr run` began its rounds and ended the last.

        Raises RuntimeError with what was logged.
        """
        self._blocks += 1
        marks = self.folder / f"marks{self._blocks}"
        marks.touch()
        self._flwr(
            "run",
            str(APP),
            "bench",
            "--run-config",
            f"rounds={rounds} sites={self.sites} parameters={parameters} "
            f'evaluate={str(evaluate).lower()} marks="{marks}"',
        )
        self._wait(lambda: len(marks.read_text().splitlines()) > rounds, limit, "the run")
        return [float(line) for line in marks.read_text().splitlines()]

    def _start(self, stack: ExitStack) -> None:
        home = self.folder / "flwr"
        home.mkdir(parents=True)
        pki = Pki(self.folder / "pki")
        pki.create("bench", ["127.0.0.1", "localhost"])
        ca, port = str(pki.ca_certificate), free_port()
        (home / "config.toml").write_text(
            '[superlink]\ndefault = "bench"\n\n[superlink.bench]\n'
            f'address = "127.0.0.1:{port}"\nroot-certificates = "{ca}"\n'
        )
        self._superlink = self._child(stack, "superlink", "flower-superlink", "--host", "127.0.0.1",
                    "--port", str(port), "--ssl-ca-certfile", ca,
                    "--ssl-certfile", str(pki.certificate), "--ssl-keyfile", str(pki.private_key),
                    "--enable-supernode-auth")  # fmt: skip
        self._wait(lambda: _answers(port), _READY, "flower-superlink")
        for number in range(self.sites):
            key = self.folder / f"node{number}.pem"
            public = key.with_suffix(".pub")
            _make_node_key(key, public)
            self._flwr("supernode", "register", str(public), "bench")
            node = self._child(stack, f"supernode{number}", "flower-supernode",
                               "--superlink", f"127.0.0.1:{port}", "--root-certificates", ca,
                               "--port", str(free_port()),
                               "--auth-supernode-private-key", str(key))  # fmt: skip
            self._nodes.append(node)

    def _child(self, stack: ExitStack, name: str, program: str, *options: str) -> GuardedProcess:
        process = GuardedProcess([script(program), *options], self.folder / f"{name}.log", self.env)
        stack.callback(process.stop)
        return process

    def _flwr(self, *options: str) -> None:
        checked(f"flwr {options[0]}", [script("flwr"), *options], self.env, _READY)

    def _wait(self, done: Callable[[], bool], limit: float, what: str) -> None:
        deadline = time.monotonic() + limit
        while not done():
            if time.monotonic() > deadline:
                tails = [log.read_text()[-800:] for log in sorted(self.folder.glob("*.log"))]
                raise RuntimeError(
                    f"{what} did not get ready in {limit:.0f} s:\n" + "\n".join(tails)
                )
            time.sleep(0.1)


def _make_node_key(private: Path, public: Path) -> None:
    """As `ssh-keygen -t ecdsa -b 384` makes it: the form that Flower's tools read."""
    key = ec.generate_private_key(ec.SECP384R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    private.touch(mode=0o600)
    private.write_bytes(pem)
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )
    )


def _answers(port: int) -> bool:
    with socket.socket() as tried:
        tried.settimeout(1.0)
        return tried.connect_ex(("127.0.0.1", port)) == 0
