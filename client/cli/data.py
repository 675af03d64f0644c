"""The command about data: the views that are shipped, to be read, copied and changed."""

from __future__ import annotations

from typing import Annotated

import typer


def mount(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(view)


def view(
    task: Annotated[str, typer.Argument(help="A task, such as icu_mortality.")],
    kind: Annotated[str, typer.Argument(help="omop, fhir or dicom.")],
    definitions: Annotated[
        bool, typer.Option("--definitions", help="The paths of the ViewDefinitions, of fhir.")
    ] = False,
) -> None:
    """The SQL of the view that is shipped for a task over OMOP, FHIR or the imaging index."""
    from client.data import templates

    text = templates.view(f"{templates.PREFIX}{kind}", task)
    if definitions:
        text = "\n".join(str(path) for path in templates.definitions(task) if kind == "fhir")
    typer.echo(text.rstrip())
