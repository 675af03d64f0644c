"""`wardround run --info` is whole on a narrow screen."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from launch.cli.info import explain
from launch.config.keys import keys_of
from launch.config.schema import Config


@pytest.mark.parametrize("width", [60, 80, 200])
def test_no_key_is_cut(width: int) -> None:
    screen = io.StringIO()
    explain(Console(file=screen, width=width, color_system=None))
    text = "".join(screen.getvalue().split())
    assert "…" not in text
    if width == 200:
        assert all(key.name in text for key in keys_of(Config))
