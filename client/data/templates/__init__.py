"""The shipped views: over OMOP, FHIR and files for tasks on health records, over the imaging
index for tasks on images.

A site writes `view: template:omop`, `template:fhir` or `template:csv` in site.yaml;
`wardround-site view` prints the whole text, to be copied and changed. Each has two parts: the
source's names (omop/*.sql, fhir/*.sql with its ViewDefinitions, csv/*.sql), as the tables of a
WITH, and the task's SELECT (task/*.sql), which is the same over all. Building blocks are stays.sql,
which makes stays out of encounters and visits, window.sql, what was measured before a landmark, and
sequence.sql, what was begun or done before one.
"""

from __future__ import annotations

import re
from pathlib import Path

from protocol.errors import Code, WardroundError

PREFIX = "template:"
KINDS = ("omop", "fhir", "csv")
_SOURCE_PART = {
    "icu_mortality": "icu",
    "icu_timeseries": "icu",
    "readmission": "readmission",
    "fusion": "fusion",
    "deterioration": "ward",
    "no_show": "appointments",
}
_DEFINITIONS = {"ward": ("icu", "medicines"), "readmission": ("readmission", "medicines")}
"""Folders of the resources that a part over FHIR reads, where it is not the one of its name."""
_FOLDER = Path(__file__).parent
TASKS = tuple(_SOURCE_PART)
IMAGE_TASKS = ("chest_xray", "dicom_dose")
"""Tasks whose view is over the imaging index, `view: template:dicom`; all but those `WITHOUT_FILES`
need a table `labels` by accession number."""
WITHOUT_FILES = ("dicom_dose",)


def view(name: str, task: str) -> str:
    """template:omop or template:fhir -> the SQL for the task.

    Raises WardroundError(CONFIGURATION) where none is shipped.
    """
    kind, part = name.removeprefix(PREFIX), _SOURCE_PART.get(task)
    if kind == "dicom" and task in IMAGE_TASKS:
        return (_FOLDER / kind / f"{task}.sql").read_text(encoding="utf-8")
    if kind not in kinds(task):
        raise WardroundError(
            Code.CONFIGURATION,
            f"No view {name} is shipped for the task {task}.",
            remedy="Write one. There are: "
            + "; ".join(
                f"template:{kind} for {', '.join(t for t in TASKS if kind in kinds(t))}"
                for kind in KINDS
            )
            + f"; template:dicom for {', '.join(IMAGE_TASKS)}.",
        )
    return "".join(_text(name) for name in (f"{kind}/{part}.sql", f"task/{task}.sql"))


def kinds(task: str) -> tuple[str, ...]:
    """The sources over which a view of the task is shipped, of `KINDS`: appointments and wards are
    common as a few tables of files."""
    part = _SOURCE_PART.get(task)
    return tuple(kind for kind in KINDS if (_FOLDER / kind / f"{part}.sql").exists())


def _text(name: str) -> str:
    """A file's text, with the files that it includes in their places."""
    text = (_FOLDER / name).read_text(encoding="utf-8")
    return re.sub(r"(?m)^-- include (.+)\n", lambda line: _text(line[1]), text)


def definitions(task: str) -> tuple[Path, ...]:
    """The ViewDefinitions that the task's view over FHIR reads."""
    part = _SOURCE_PART.get(task, "")
    folders = _DEFINITIONS.get(part, (part,)) if part else ()
    return tuple(
        path for name in folders for path in sorted((_FOLDER / "fhir" / name).glob("*.json"))
    )
