"""`wardround tasks`: what can be learned here, with which options, and whether data is at hand."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from protocol.errors import WardroundError
from protocol.terminal.command_line import Json, console, print_json
from protocol.terminal.printable import printable

if TYPE_CHECKING:
    from rich.table import Table

    from tasks.task_index import TaskFacts


@dataclass(frozen=True)
class InstalledTask:
    """A task of this installation. `data`: whether its public data is on this machine; where it is
    not, `remedy` says what to do."""

    name: str
    version: int
    title: str
    options: dict[str, list[str]]
    columns: int
    images: int
    source: str
    data: bool
    remedy: str


def describe(facts: TaskFacts, source: str, root: Path) -> InstalledTask:
    """The task as it is listed; its files are looked for below `root`, and not read."""
    if facts.files is None:
        data, remedy = False, "each hospital's own data only"
    elif missing := [file for file in facts.files if not (root / file).exists()]:
        way = f": wardround data fetch {facts.name}" if facts.fetched else ""
        data, remedy = False, f"{missing[0]} is not below {root}{way}"
    else:
        data, remedy = True, ""
    return InstalledTask(
        facts.name,
        facts.version,
        facts.title,
        facts.options,
        facts.columns,
        facts.images,
        source,
        data,
        remedy,
    )


def tasks_command(as_json: Json = False) -> None:
    """List the tasks that are installed here, their options, and whether public data is here.

    To find the word for `task=` in `wardround run`, and the values of `task.options`. Hospitals'
    own tasks are listed too once they are installed (entry point wardround.tasks).

    Example: wardround tasks --json
    """
    from launch.studies.public_data import data_root
    from tasks import registry, task_index

    root, errors = data_root(), console(stderr=True)
    tasks = [
        describe(facts, task_index.source_of(facts), root)
        for facts in task_index.shipped().values()
    ]
    for name in registry.plugin_tasks():
        try:
            task = registry.load(name)
            tasks.append(describe(task_index.facts_of(task), task.source_digest(), root))
        except WardroundError as error:  # a broken plug-in hides itself only
            errors.print(printable(error.message), style="yellow", soft_wrap=True)
    tasks.sort(key=lambda task: task.name)
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
        table.add_column(heading, overflow="fold")
    for task in tasks:
        pictures = f"{task.images} picture{'s' * (task.images > 1)}"
        parts = [f"{task.columns} columns"] * bool(task.columns) + [pictures] * bool(task.images)
        data = "yes" if task.data else task.remedy
        row = (f"{task.name} {task.version}", ", ".join(parts), data, task.title)
        table.add_row(*map(printable, row))
    return table


def _options(tasks: list[InstalledTask]) -> Table:
    from rich.table import Table

    table = Table(title="task.options", title_justify="left", box=None, pad_edge=False)
    table.add_column("of", no_wrap=True)
    table.add_column("option", no_wrap=True)
    table.add_column("values, the default first", overflow="fold")
    for task in tasks:
        for option, values in task.options.items():
            table.add_row(*map(printable, (task.name, option, ", ".join(values))))
    return table
