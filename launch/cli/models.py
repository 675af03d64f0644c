"""`wardround models`: check a registered model against what its coordinator signed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from protocol.terminal.command_line import CommandLine, Json, print_result
from protocol.terminal.printable import printable

models_app = CommandLine("Registered models.")


@models_app.callback()
def _models() -> None:
    """Without it, Typer takes the one command for the group."""


@models_app.command()
def verify(
    model: Annotated[str, typer.Argument(help="models:/NAME/VERSION, as MLflow names it.")],
    key: Annotated[
        Path | None,
        typer.Option(
            help="The coordinator's bundle, or your credentials: a file with its public signing "
            "key.",
            show_default="WARDROUND_CREDENTIALS",
        ),
    ] = None,
    unsigned: Annotated[
        bool,
        typer.Option(
            "--unsigned",
            help="Compare the files with their record alone, whoever signed it, or nobody.",
        ),
    ] = False,
    tracking: Annotated[
        str | None,
        typer.Option(help="MLflow's server, http(s)://...", show_default="MLFLOW_TRACKING_URI"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check that a registered model is what its study released: every file, and the signature.

    Before a model is approved or used. Nothing of the model is run. Exit status 0: as signed.

    Example: wardround models verify models:/breast_cancer/1 --key bundle.json
    """
    from server.tracking import registered_model

    found = registered_model.verify(model, key=key, unsigned=unsigned, tracking_uri=tracking)
    record, signer = found.record.record, found.record.signer_fingerprint
    files = len(record.files)
    if found.is_signed:
        done = f"{model} is as the coordinator signed it (key {signer})."
    else:
        done = (
            f"NOT VERIFIED: the {files} files of {model} are as their record in MLflow says, but "
            f"no key that you trust signed it (by {signer})."
        )
    facts = {
        "model": model,
        "signed": found.is_signed,
        "signer": signer,
        "study": record.study,
        "weights": record.weights,
        "files": dict(record.files),
    }
    lines = [done, f"study    {record.study}", f"weights  {record.weights}"]
    print_result("\n".join(map(printable, lines)), facts, as_json)
