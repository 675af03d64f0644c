"""Views that are shipped: for each task one over an OMOP CDM and one over a FHIR export.

A site writes `view: template:omop` or `view: template:fhir` in site.yaml, or copies the file and
changes it.
"""

from __future__ import annotations

from pathlib import Path

from protocol.errors import Code, WardroundError

PREFIX = "template:"
_FOLDER = Path(__file__).parent


def tasks(kind: str) -> tuple[str, ...]:
    """The tasks that have a template. kind: omop or fhir."""
    return tuple(sorted(path.stem for path in (_FOLDER / kind).glob("*.sql")))


def view(name: str, task: str) -> Path:
    """template:omop or template:fhir -> the SQL file for the task.

    Raises WardroundError(CONFIGURATION) where none is shipped.
    """
    kind = name.removeprefix(PREFIX)
    if task not in tasks(kind):
        raise WardroundError(
            Code.CONFIGURATION,
            f"No view {name} is shipped for the task {task}.",
            remedy=f"Write one; there are some for {', '.join(tasks(kind)) or 'no task'}.",
        )
    return _FOLDER / kind / f"{task}.sql"


def definitions(task: str) -> tuple[Path, ...]:
    """The ViewDefinitions that the task's view over FHIR reads."""
    return tuple(sorted((_FOLDER / "fhir" / task).glob("*.json")))
