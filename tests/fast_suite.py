"""Which files of tests `--fast` leaves out: by what they import, so that nobody keeps a list.

A file is left out if it, its folder's conftest.py, or a module of `tests` that one of them imports,
can start another process, a coordinator, a study or MLflow. So are tests with the marker `slow`.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent
STARTS = (
    "asyncio",
    "client.daemon",
    "client.data.dicom.receive",
    "client.data.limited_process",
    "client.process_template",
    "client.data.view_reader",
    "launch.cli",
    "launch.demo",
    "launch.federations",
    "launch.studies",
    "mlflow",
    "multiprocessing",
    "nbclient",
    "ray",
    "server.coordinator",
    "server.rounds",
    "server.tracking",
    "server.transport",
    "subprocess",
    "threading",
    "wardround",
)
"""Packages whose import says that a test may start something."""


def is_fast(file: Path) -> bool:
    """Whether nothing that a file of tests imports starts anything."""
    above = [folder / "conftest.py" for folder in file.parents if TESTS in folder.parents]
    return not any(_starts(one) for one in (file, *above) if one.is_file())


@functools.cache
def _starts(file: Path) -> bool:
    for name in _imported(file):
        if any(name == one or name.startswith(f"{one}.") for one in STARTS):
            return True
        own = TESTS.parent / f"{name.replace('.', '/')}.py"
        if name.startswith("tests.") and own.is_file() and own != file and _starts(own):
            return True
    return False


def _imported(file: Path) -> Iterator[str]:
    """`from a.b import c` is a.b and a.b.c."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
