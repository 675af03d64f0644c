"""`wardround tracking`: deliver studies to MLflow that it did not receive while they ran."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from protocol.errors import Code, WardroundError
from protocol.terminal.command_line import CommandLine, Json, print_result
from protocol.terminal.printable import printable

tracking_app = CommandLine("What MLflow has not taken yet.")


@tracking_app.callback()
def _tracking() -> None:
    """Without it, Typer takes the one command for the group."""


@tracking_app.command()
def deliver(
    folder: Annotated[
        Path, typer.Argument(help="The folder under undelivered/ that `wardround run` named.")
    ],
    uri: Annotated[str, typer.Argument(help="The address of the MLflow server, http(s)://...")],
    experiment: Annotated[str, typer.Argument(help="The experiment's name there.")],
    model: Annotated[
        str | None, typer.Option(help="The registered model's name (default: the task's).")
    ] = None,
    coordinator: Annotated[
        Path | None,
        typer.Option(help="The folder of the coordinator that ran it, whose key signs the model."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Deliver a study that was stored here while MLflow was away.

    When `wardround run` said "Not in MLflow yet" and the server is back. It is added to
    the study's run, if there is one; nothing is written twice.

    Example: wardround tracking deliver outputs/undelivered/3f1c2a9b8d7e http://mlflow:5000 icu
    """
    from server.coordinator.config import CoordinatorConfig
    from server.enrolment.signing_key import signing_key
    from server.tracking import tracker

    signer = None
    if coordinator is not None:
        signer = signing_key(CoordinatorConfig.load(coordinator).folder)
    receipt = tracker.deliver(folder, uri, experiment, model, signer=signer)
    if receipt.missing:
        missing = ", ".join(receipt.missing)
        raise WardroundError(Code.TRACKING, f"Not in MLflow yet: {missing}.", remedy=receipt.remedy)
    print_result(printable(receipt.url), {"url": receipt.url, "model": receipt.model}, as_json)
