"""An environment that has only what wardround installs without optional parts.

A real one takes minutes and gigabytes. Here every Python process of the environment finds no module
of any other package, as if it were not installed: `sitecustomize` is imported at each start.
"""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path

from packaging.utils import canonicalize_name

from support.environment import OWN, closure, modules

_BLOCKER = """
import sys
from importlib.machinery import PathFinder

ABSENT = frozenset({absent!r})


class Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if path is None and name in ABSENT:
            return None
        return super().find_spec(name, path, target)


sys.meta_path[:] = [Finder if one is PathFinder else one for one in sys.meta_path]
"""


def without_optional_parts(folder: Path) -> dict[str, str]:
    """The environment variables of such processes; `folder` gets the file that they need."""
    installed = {canonicalize_name(one.metadata["Name"]) for one in metadata.distributions()}
    absent = modules(installed - closure() - {OWN, "setuptools", "pip"})
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_BLOCKER.format(absent=sorted(absent)))
    path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
    return os.environ | {"PYTHONPATH": path}
