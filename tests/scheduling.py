"""How pytest-xdist shares the suite out, so that no worker waits for another at the end.

Tests of one file run in one worker. So do those of one folder whose conftest.py keeps something
running for all of them: a federation of processes is then started once. What starts processes comes
first; the thousands of quick tests fill the gaps at the end.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.fast_suite import TESTS, is_fast


class ByFolderOrFile(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Units of work in the order of `slowest_first`, and not by how many tests they have."""

    def _split_scope(self, nodeid: str) -> str:
        return str(unit(TESTS.parent / nodeid.split("::", 1)[0]))


def slowest_first(items: list[pytest.Item]) -> None:
    """Whole folders, then files that start something, then the others; each in its old order."""
    items.sort(key=lambda item: _rank(item.path))


@cache
def unit(file: Path) -> Path:
    """The folder whose conftest.py keeps something running for all its tests, or else the file."""
    return next(filter(_keeps_running, file.parents), file)


@cache
def _rank(file: Path) -> int:
    if unit(file) != file:
        return 0
    return 2 if is_fast(file) else 1


@cache
def _keeps_running(folder: Path) -> bool:
    """Whether it has a fixture for the whole session, with an end."""
    conftest = folder / "conftest.py"
    if TESTS not in folder.parents or not conftest.is_file():
        return False
    text = conftest.read_text()
    return 'scope="session"' in text and "yield" in text
