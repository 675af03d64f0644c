"""`wardround-site` in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from client.cli import main


@dataclass
class Ran:
    status: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """The console script's `main`, in this process."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("WARDROUND_SITE", raising=False)

    def command(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["wardround-site", *map(str, arguments)])
        status = 0
        try:
            main.main()
        except SystemExit as leaving:
            status = int(leaving.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return Ran(status, out, err)

    return command
