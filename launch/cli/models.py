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
    checked without any network, and so is the program beside it. Exit status 0: as signed.

    Example: wardround models verify models:/breast_cancer/1 --key bundle.json
    """
    from launch.review.program_file import SUFFIX, require_program_of
    from protocol.document import digest
    from server.tracking import registered_model

    if not model.startswith("models:/"):
        from protocol.models.bundle import Bundle

        bundle = Bundle.read(Path(model), registered_model.required_key(key))
        beside = Path(model).with_suffix(SUFFIX)
        if beside.exists():
            require_program_of(bundle, beside)
        _print_bundle(bundle, as_json, beside if beside.exists() else None)
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
        "digest": digest(found.record.text.encode()),
        "signed": found.is_signed,
        "signer": signer,
        "study": record.study,
        "weights": record.weights,
        "files": dict(record.files),
    }
    lines = [done, *(f"{name:<8} {facts[name]}" for name in ("digest", "study", "weights"))]
    print_result("\n".join(map(printable, lines)), facts, as_json)


def export(
    model: Annotated[
        str, typer.Argument(help="models:/NAME@approved, or models:/NAME/VERSION, in MLflow.")
    ],
    file: Annotated[Path, typer.Argument(help="The file to write, such as model.safetensors.")],
    key: Key = None,
    tracking: Tracking = None,
    coordinator: Annotated[
        str | None, typer.Option(help="host:port, instead of the one in your credentials.")
    ] = None,
    offline: Annotated[
        bool,
        typer.Option(
            "--offline",
            help="Take the decision as MLflow has it, without asking the coordinator for a newer.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Take a released model out of MLflow, as one file that hospitals can check and use.

    For `wardround-site predict`. The file holds weights, study, card, the coordinator's signature
    and the approval of a reviewer, and no code. Its digest is what a hospital allows in site.yaml.
    Beside it, where torch can export the model, goes a program of the same name (.pt2), which runs
    with torch alone.

    With an account (--key with your credentials, or what `wardround login` kept) the coordinator is
    asked for the last word on the version, and must answer. Without one, or with --offline, nobody
    is: an approval that was withdrawn since may be in the file, as its last line says.

    Example: wardround export models:/breast_cancer@approved model.safetensors --key bundle.json
    """
    from launch.review.newest import newest
    from launch.review.program_file import require_free, write_program
    from server.tracking import model_export

    require_free(file)
    history = newest(key, coordinator, offline=offline)
    bundle = model_export.export(model, file, key=key, tracking_uri=tracking, history=history)
    program = write_program(bundle, file)
    _print_bundle(bundle, as_json, program, None if history is None else history.number)


def _print_bundle(
    bundle: Bundle, as_json: bool, program: Path | None, number: int | None = None
) -> None:
    """program: the file with one. number: of the last entry of the coordinator's record, where it
    was asked."""
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
        "entry": None if bundle.approval is None else bundle.approval.entry.number,
        "record": number,
        "program": program,
    }
    lines = [
        f"{bundle.name} is as the coordinator signed it (key {facts['signer']}).",
        *(f"{name:<8} {facts[name]}" for name in ("digest", "study", "task")),
        f"approved {approved}",
        f"program  {program or 'none'}",
    ]
    if number is not None:
        lines.append(f"newest   by the coordinator's record, {number} decisions long")
    elif bundle.approval is not None:
        lines.append(
            f"newest   not known: nobody was asked what was decided after entry {facts['entry']}"
        )
    print_result("\n".join(map(printable, lines)), facts, as_json)
