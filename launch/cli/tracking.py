"""`wardround tracking`: bring to MLflow what it did not take while a study ran."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from protocol.errors import Code, WardroundError

tracking_app = typer.Typer(help="What MLflow did not take yet.", no_args_is_help=True)


@tracking_app.callback()
def _tracking() -> None:
    """What MLflow did not take yet."""


@tracking_app.command()
def deliver(
    folder: Annotated[Path, typer.Argument(help="The folder that `wardround run` named.")],
    uri: Annotated[str, typer.Argument(help="The address of the MLflow server.")],
    experiment: Annotated[str, typer.Argument(help="The experiment's name there.")],
    model: Annotated[
        str | None, typer.Option(help="The registered model's name (default: the task's).")
    ] = None,
) -> None:
    """Deliver a study that was kept while the MLflow server was away, into the run it has there."""
    from server.tracking import tracker

    receipt = tracker.deliver(folder, uri, experiment, model)
    if receipt.missing:
        missing = ", ".join(receipt.missing)
        raise WardroundError(Code.TRACKING, f"Not in MLflow yet: {missing}.", remedy=receipt.remedy)
    typer.echo(receipt.url)
