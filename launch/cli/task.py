"""`wardround task`: for whoever writes a task of their own."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from protocol.terminal.command_line import CommandLine, Json, console, print_json, print_result
from protocol.terminal.printable import printable

task_app = CommandLine("Write a task of your own, and try it out before any study.")


@task_app.command()
def new(
    name: Annotated[str, typer.Argument(help="What the task is called, such as wound_infection.")],
    folder: Annotated[Path, typer.Option(help="Where its folder is made.")] = Path(),
    as_json: Json = False,
) -> None:
    """Write a package with a task that works: schema, model, entry point, test, a hospital's view.

    To begin with, and to change line by line. `task check` tries it out at any time; `run
    task=NAME/NAME.py` runs it in this process before it is installed.

    Example: wardround task new wound_infection
    """
    from launch.authoring.new_package import write

    made = write(name, folder)
    file = made / f"{name}.py"
    print_result(
        f"{made}: schema and model in {file.name}, a test, a view for hospitals.\n"
        f"Next: wardround task check {file}",
        {"folder": made, "task": file},
        as_json,
    )


@task_app.command()
def check(
    task: Annotated[str, typer.Argument(help="An installed task, or the Python file of one.")],
    as_json: Json = False,
) -> None:
    """Try a task out on invented patients, in every privacy mode.

    Shapes of outputs, losses and scores, missing values, patients kept apart by every layer: what a
    study is refused for, before anything is installed anywhere. Every study makes the same checks.
    The exit status is not 0 where the task or a mode is refused.

    Example: wardround task check wound_infection/wound_infection.py
    """
    from launch.authoring.dry_run import refused, results
    from tasks import registry
    from tasks.flat_model import FlatModel

    loaded = registry.load(registry.register_file(task) if ".py" in task else task)
    tried = results(loaded)
    model = FlatModel(loaded, 0)
    facts = {
        "task": loaded.name,
        "version": loaded.version,
        "source": loaded.source_digest(),
        "parameters": model.layout.size,
        "frozen": sum(values.size for values in model.frozen.values()),
    }
    if as_json:
        print_json(facts | {"modes": [asdict(result) for result in tried]})
    else:
        screen = console()
        for name, fact in facts.items():
            screen.print(f"{name:<24} {printable(str(fact))}")
        for result in tried:
            screen.print(f"{'privacy=' + result.mode:<32} {'refused' if result.problem else 'ok'}")
    for result in tried:
        if result.problem:
            raise refused(result)
