"""A package with a task that works: to be changed column by column, and installed anywhere."""

from __future__ import annotations

import keyword
import re
import sys
from pathlib import Path
from string import Template

from protocol.errors import Code, WardroundError, unwritable
from tasks import registry

_TEMPLATE = Path(__file__).parent / "template"
_FILES = {
    "pyproject.txt": "pyproject.toml",
    "readme.txt": "README.md",
    "task.txt": "{name}.py",
    "test_task.txt": "tests/test_{name}.py",
    "view.txt": "view.sql",
}
"""Template -> the file that is made of it."""


def write(name: str, parent: Path) -> Path:
    """A new folder `parent/name` with schema, model, entry point, test and a view for hospitals.

    Raises WardroundError(USAGE) where the name cannot be a task's and a module's, is taken, or the
    folder is there.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]{1,40}", name) or keyword.iskeyword(name):
        raise WardroundError(
            Code.USAGE,
            f"{name} cannot be the name of a task and of its Python module.",
            remedy="Use small letters, digits and underscores, a letter first: wound_infection.",
        )
    if name in registry.installed() or name in sys.stdlib_module_names:
        raise WardroundError(
            Code.USAGE,
            f"{name} is the name of a task or a Python module that is here already.",
            remedy="Choose another name.",
        )
    folder = parent / name
    if folder.exists():
        raise WardroundError(
            Code.USAGE, f"{folder} is there already.", remedy="Choose another name or folder."
        )
    words = {"name": name, "title": name.replace("_", " "), "kind": _kind(name)}
    try:
        for template, target in _FILES.items():
            file = folder / target.format(name=name)
            file.parent.mkdir(parents=True, exist_ok=True)
            text = (_TEMPLATE / template).read_text(encoding="utf-8")
            file.write_text(Template(text).substitute(words), encoding="utf-8")
    except OSError as error:
        raise unwritable(folder, error) from None
    return folder


def _kind(name: str) -> str:
    """wound_infection -> WoundInfection."""
    return "".join(word.capitalize() for word in name.split("_"))
