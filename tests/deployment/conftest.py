"""One demo, run once from its command to its end, for every test of this folder."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.deployment.processes import Command

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Finished:
    """A demo that has ended. `record`: what only the hospitals know, by site."""

    command: Command
    status: int
    folder: Path
    record: Path

    @property
    def output(self) -> Path:
        """Where the data scientist finds the result."""
        (found,) = (self.folder / "outputs").iterdir()
        return found

    def summary(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.output / "summary.json").read_text())
        return content


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    base = tmp_path_factory.mktemp("demo")
    record, folder = base / "record", base / "demo"
    record.mkdir(mode=0o700)
    command = Command(
        [sys.executable, HERE / "canaried_demo.py", record, "demo", "--folder", folder],
        base / "terminal",
    )
    try:
        yield Finished(command, command.ended(), folder, record)
    finally:
        command.end()


@pytest.fixture(scope="session")
def mlflow_url(demo: Finished, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The demo's MLflow server, opened again as its last line says, on a free port."""
    script = Path(sys.executable).with_name("wardround")
    words: list[str | Path] = [script, "mlflow", demo.folder / "mlflow", "--port", "0"]
    command = Command(words, tmp_path_factory.mktemp("mlflow"))
    try:
        command.until(lambda said: "MLflow: http" in said)
        page = command.said.split("MLflow: ")[1].split()[0]
        password = (demo.folder / "mlflow" / "password").read_text().strip()
        assert password not in command.said
        yield page.replace("//", f"//wardround:{password}@")
        command.interrupt(signal.SIGINT)
        assert command.ended() == 130
        command.until_none_is_left()
    finally:
        command.end()
