"""view: the SQL views that are shipped, to be read, copied and changed."""

from __future__ import annotations

from typing import Annotated

import typer

from protocol.terminal.command_line import Json, print_result


def view(
    task: Annotated[str, typer.Argument(help="A task, such as icu_mortality.")],
    kind: Annotated[str, typer.Argument(help="omop, fhir, csv or dicom.")],
    definitions: Annotated[
        bool, typer.Option("--definitions", help="The paths of the ViewDefinitions, of fhir.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print the SQL of the view that is shipped for a task, over OMOP, FHIR, files or DICOM.

    To see what `view: template:omop` in site.yaml selects, or as a start for a view of your own.

    Example: wardround-site view icu_mortality omop
    """
    from client.data import templates

    text = templates.view(f"{templates.PREFIX}{kind}", task)
    facts: dict[str, object] = {"task": task, "kind": kind, "sql": text}
    if definitions:
        paths = templates.definitions(task) if kind == "fhir" else ()
        text, facts = "\n".join(map(str, paths)), {"definitions": list(paths)}
    print_result(text.rstrip(), facts, as_json)
