"""The golden files of every release, the task that their studies are of, and the site's command."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from client.cli import main
from tests.golden.opened import HERE, PLUG_IN, RELEASES, Golden


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    status: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture(params=RELEASES)
def golden(request: pytest.FixtureRequest) -> Golden:
    """What one release left behind, release by release."""
    return Golden(HERE / str(request.param))


@pytest.fixture(autouse=True)
def recovery(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plug-in is installed, here and in processes that a test starts."""
    monkeypatch.syspath_prepend(str(PLUG_IN))
    monkeypatch.setenv("PYTHONPATH", str(PLUG_IN))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """`wardround-site ... --config FOLDER`: the console script's `main`, in this process."""
    monkeypatch.setenv("COLUMNS", "200")

    def command(site: Path, *words: object) -> Ran:
        arguments = ["wardround-site", *map(str, words), "--config", str(site)]
        monkeypatch.setattr(sys, "argv", arguments)
        status = 0
        try:
            main.main()
        except SystemExit as leaving:
            status = int(leaving.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return Ran(status, out, err)

    return command
