"""A federation's MLflow as its operator sets it up, served by a process of its own on loopback."""

from __future__ import annotations

import json
import ssl
import time
from pathlib import Path
from typing import Self

import httpx
from typer.testing import CliRunner

from launch.cli.coordinator.main import coordinator_app
from launch.demo.child_process import GuardedProcess, script
from launch.demo.local_ports import free_port
from launch.tracking_server.coordinator_login import COORDINATOR, PASSWORD
from protocol.errors import WardroundError
from server.coordinator.config import CoordinatorConfig
from tests.waiting import HUNG


class FederationMlflow:
    """ada and alan are data scientists, rita is a reviewer, unless `of`. Running within `with`."""

    def __init__(self, folder: Path, of: CoordinatorConfig | None = None) -> None:
        """of: a coordinator whose people come in; it tracks at an https address of localhost."""
        self.folder, self.home, self.out = folder, folder / "mlflow", folder / "invitations"
        self._process: GuardedProcess | None = None
        if of is None:
            file = folder / "consortium.yaml"
            file.write_text(
                f"coordinator: {{hosts: [localhost], mlflow: 'https://localhost:{free_port()}'}}\n"
                "data_scientists: [ada, alan]\nreviewers: [rita]\n"
            )
            self.does("setup", file, folder / "coordinator", "--out", self.out)
            of = CoordinatorConfig.load(folder / "coordinator")
        assert of.tracking.uri is not None
        self.config, self.url = of, of.tracking.uri

    def does(self, *words: str | Path) -> str:
        done = CliRunner().invoke(coordinator_app, [str(word) for word in words])
        if isinstance(done.exception, WardroundError):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.output

    def set_up(self, *words: str) -> dict[str, str]:
        """Who got which file."""
        given: list[str | Path] = [
            "--out",
            self.out,
            "--config",
            self.config.folder,
            "--json",
            *words,
        ]
        made: dict[str, str] = json.loads(self.does("mlflow", self.home, *given))["made"]
        return made

    def password(self, name: str) -> str:
        if name == COORDINATOR:
            return (self.config.folder / PASSWORD).read_text().strip()
        lines = (self.out / f"{name}.mlflow.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)["MLFLOW_TRACKING_PASSWORD"]

    def uri(self, name: str) -> str:
        """With name and password; MLFLOW_TRACKING_SERVER_CERT_PATH says the rest."""
        return self.url.replace("//", f"//{name}:{self.password(name)}@")

    def client(self, name: str | None = None) -> httpx.Client:
        context = ssl.create_default_context(cafile=str(self.config.pki.ca_certificate))
        auth = (name, self.password(name)) if name else None
        return httpx.Client(
            base_url=self.url, verify=context, auth=auth, trust_env=False, timeout=60
        )

    def __enter__(self) -> Self:
        command = [script("wardround"), "mlflow", str(self.home)]
        self._process = GuardedProcess(command, self.folder / "server.log", {})
        deadline = time.monotonic() + HUNG
        with self.client() as client:
            while not self._healthy(client):
                assert self._process.running, (self.folder / "server.log").read_text()
                assert time.monotonic() < deadline, (self.folder / "server.log").read_text()
                time.sleep(0.1)
        return self

    def _healthy(self, client: httpx.Client) -> bool:
        try:
            return client.get("/health").status_code == 401
        except httpx.TransportError:
            return False

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.stop()
