"""What a list of tasks says of each, for the shipped ones without importing them: with its model a
task brings PyTorch along, which takes seconds.

`python -m tasks.task_index` writes `shipped/index.json` again after a change of a shipped task.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from protocol.document import digest_of_all
from tasks import registry

if TYPE_CHECKING:
    from tasks.base import Task

_ROOT = Path(__file__).parent.parent
INDEX = Path(__file__).parent / "shipped" / "index.json"


@dataclass(frozen=True)
class TaskFacts:
    """`options`: option -> its values, the default first. `columns`, `images`: how many it reads.
    `files`: of its public data, below the data root; None where there is none. `fetched`: whether
    `wardround data fetch` brings them. `sources`: the files that its digest is of, in this
    installation where they are relative."""

    name: str
    version: int
    title: str
    options: dict[str, list[str]]
    columns: int
    images: int
    files: list[str] | None
    fetched: bool
    sources: list[str]


def facts_of(task: Task) -> TaskFacts:
    """Raises WardroundError(CONFIGURATION) where its source cannot be read."""
    files = task.public_files()
    return TaskFacts(
        task.name,
        task.version,
        task.title,
        {option: [str(value) for value in values] for option, values in task.choices.items()},
        len(task.schema.columns),
        len(task.schema.images),
        None if files is None else list(files),
        bool(task.downloads),
        sorted(_shortened(source) for source in task.sources()),
    )


def shipped() -> dict[str, TaskFacts]:
    """Every shipped task, as the index has it."""
    return {facts["name"]: TaskFacts(**facts) for facts in json.loads(INDEX.read_text())}


def source_of(facts: TaskFacts) -> str:
    """The digest that a study of a shipped task carries."""
    return digest_of_all((_ROOT / source).read_bytes() for source in facts.sources)


def text() -> str:
    """The index as it has to be now."""
    loaded = [facts_of(registry.load(name)) for name in registry.BUILT_IN]
    return json.dumps([asdict(facts) for facts in loaded], indent=1) + "\n"


def _shortened(source: str) -> str:
    path = Path(source)
    return path.relative_to(_ROOT).as_posix() if path.is_relative_to(_ROOT) else source


if __name__ == "__main__":
    INDEX.write_text(text())
