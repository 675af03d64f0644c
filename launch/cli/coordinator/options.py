"""Which coordinator a command is about."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from server.coordinator.config import CoordinatorConfig

Config = Annotated[
    Path,
    typer.Option(
        "--config",
        "-c",
        envvar="WARDROUND_COORDINATOR_FOLDER",
        help="coordinator.yaml, or the folder that holds it.",
        show_default="./coordinator.yaml",
    ),
]
HERE = Path("coordinator.yaml")


def configuration(path: Path) -> CoordinatorConfig:
    """Of a coordinator.yaml, or of the folder that holds it."""
    from server.coordinator.config import FILE, CoordinatorConfig

    return CoordinatorConfig.load(path.parent if path.name == FILE else path)
