"""`wardround tasks`: what can be learned here, with which options, and whether data is at hand."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from protocol.errors import WardroundError
from protocol.terminal.command_line import Json, console, print_json
from protocol.terminal.printable import printable

if TYPE_CHECKING:
    from rich.table import Table

    from tasks.base import Task


@dataclass(frozen=True)
class InstalledTask:
    """A task of this installation. `options`: option -> its values, the default first. `data`:
    number of sites whose public data is on this machine; None where there is none, for the reason
    in `remedy`."""

    name: str
    version: int
    title: str
    options: dict[str, list[str]]
    columns: int
    images: int
    source: str
    data: int | None
    remedy: str


def describe(task: Task) -> InstalledTask:
    """The facts of one task. Reads its public data where it is on this machine."""
    from launch.studies.public_data import data_root

    data, remedy = None, ""
    try:
        data = len(task.public_sites(data_root()))
    except NotImplementedError:
        remedy = "each hospital's own data only"
    except WardroundError as error:
        remedy = error.remedy or error.message
    return InstalledTask(
        task.name,
        task.version,
        task.title,
        {option: [str(value) for value in values] for option, values in task.choices.items()},
        len(task.schema.columns),
        len(task.schema.images),
        task.source_digest(),
        data,
        remedy,
    )


def tasks_command(as_json: Json = False) -> None:
    """List the tasks that are installed here, their options, and whether public data is here.

    To find the word for `task=` in `wardround run`, and the values of `task.options`. Hospitals'
    own tasks are listed too once they are installed (entry point wardround.tasks).

    Example: wardround tasks --json
    """
    from tasks import registry

    tasks: list[InstalledTask] = []
    errors = console(stderr=True)
    with errors.status("reading public data"):
        for name in registry.installed():
            try:
                tasks.append(describe(registry.load(name)))
            except Exception as error:  # a broken plug-in hides itself only
                kind = type(error).__name__
                errors.print(f"{printable(name)} cannot be loaded ({kind}).", style="yellow")
    if as_json:
        print_json([asdict(task) for task in tasks])
        return
    screen = console()
    screen.print(_table(tasks))
    if any(task.options for task in tasks):
        screen.print()
        screen.print(_options(tasks))


def _table(tasks: list[InstalledTask]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("task", no_wrap=True)
    for heading in ("input", "public data here", "what it learns"):
        table.add_column(heading)
    for task in tasks:
        pictures = f"{task.images} picture{'s' * (task.images > 1)}"
        parts = [f"{task.columns} columns"] * bool(task.columns) + [pictures] * bool(task.images)
        data = task.remedy if task.data is None else f"{task.data} sites"
        row = (f"{task.name} {task.version}", ", ".join(parts), data, task.title)
        table.add_row(*map(printable, row))
    return table


def _options(tasks: list[InstalledTask]) -> Table:
    from rich.table import Table

    table = Table(title="task.options", title_justify="left", box=None, pad_edge=False)
    table.add_column("of", no_wrap=True)
    table.add_column("option", no_wrap=True)
    table.add_column("values, the default first")
    for task in tasks:
        for option, values in task.options.items():
            table.add_row(*map(printable, (task.name, option, ", ".join(values))))
    return table
