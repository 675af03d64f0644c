"""studies, show, approve, reject, revoke: a person decides about a study."""

from __future__ import annotations

import typer


def mount(app: typer.Typer) -> None:
    """pending"""
