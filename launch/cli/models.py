"""`wardround models verify` and `wardround export`: is a model what its coordinator signed?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from protocol.terminal.command_line import CommandLine, Json, print_result
from protocol.terminal.printable import printable

if TYPE_CHECKING:
    from protocol.models.bundle import Bundle

models_app = CommandLine("Registered models.")


@models_app.callback()
def _models() -> None:
    """Without it, Typer takes the one command for the group."""


Key = Annotated[
    Path | None,
    typer.Option(
        help="The coordinator's bundle, or your credentials: a file with its public signing key.",
        show_default="WARDROUND_CREDENTIALS",
    ),
]
Tracking = Annotated[
    str | None,
    typer.Option(help="MLflow's server, http(s)://...", show_default="MLFLOW_TRACKING_URI"),
]


@models_app.command()
def verify(
    model: Annotated[
        str,
        typer.Argument(
            help="models:/NAME/VERSION or models:/NAME@approved in MLflow, or a file of `export`."
        ),
    ],
    key: Key = None,
    unsigned: Annotated[
        bool,
        typer.Option(
            "--unsigned",
            help="Compare the files with their record alone, whoever signed it, or nobody.",
        ),
    ] = False,
    tracking: Tracking = None,
    as_json: Json = False,
) -> None:
    """Check that a model is what its study released: every file, and the signature.

    Before a model is approved or used. Nothing of the model is run. A file that `export` wrote is
    checked without any network. Exit status 0: as signed.

    Example: wardround models verify models:/breast_cancer/1 --key bundle.json
    """
    from server.tracking import registered_model

    if not model.startswith("models:/"):
        from protocol.models.bundle import Bundle

        _print_bundle(Bundle.read(Path(model), registered_model.required_key(key)), as_json)
        return
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


def export(
    model: Annotated[
        str, typer.Argument(help="models:/NAME@approved, or models:/NAME/VERSION, in MLflow.")
    ],
    file: Annotated[Path, typer.Argument(help="The file to write, such as model.safetensors.")],
    key: Key = None,
    tracking: Tracking = None,
    as_json: Json = False,
) -> None:
    """Take a released model out of MLflow, as one file that hospitals can check and use.

    For `wardround-site predict`. The file holds weights, study, card, the coordinator's signature
    and the approval of a reviewer, and no code. Its digest is what a hospital allows in site.yaml.

    Example: wardround export models:/breast_cancer@approved model.safetensors --key bundle.json
    """
    from server.tracking import model_export

    _print_bundle(model_export.export(model, file, key=key, tracking_uri=tracking), as_json)


def _print_bundle(bundle: Bundle, as_json: bool) -> None:
    said = None if bundle.approval is None else bundle.approval.decision
    approved = "by nobody"
    if said is not None:
        approved = f"by {said.reviewer} on {said.time[:10]}: {said.reason}"
    facts = {
        "digest": bundle.digest,
        "model": bundle.name,
        "signer": bundle.signed.signer_fingerprint,
        "study": bundle.study.digest,
        "task": bundle.study.task.name,
        "approval": None if said is None else said.model_dump(mode="json"),
    }
    lines = [
        f"{bundle.name} is as the coordinator signed it (key {facts['signer']}).",
        *(f"{name:<8} {facts[name]}" for name in ("digest", "study", "task")),
        f"approved {approved}",
    ]
    print_result("\n".join(map(printable, lines)), facts, as_json)
