"""What an installation of wardround with some of its optional parts holds, read from pyproject.toml
and the metadata of the packages that are installed here."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
OWN = "wardround"


def extras() -> dict[str, list[str]]:
    """Optional part -> its requirements, those for development left out."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    parts: dict[str, list[str]] = project["optional-dependencies"]
    return {name: needed for name, needed in parts.items() if name != "dev"}


def closure(parts: Iterable[str] = ()) -> frozenset[str]:
    """The distributions that an installation with these parts has, by canonical name.

    Raises PackageNotFoundError where one is not installed here.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [Requirement(line) for line in project["dependencies"]]
    wanted.append(Requirement(f"{OWN}[{','.join(sorted(parts))}]"))
    seen: set[tuple[str, str]] = set()
    while wanted:
        needed = wanted.pop()
        name = canonicalize_name(needed.name)
        for extra in ("", *sorted(needed.extras)):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            if name == OWN:
                wanted += [Requirement(line) for line in extras().get(extra, ())]
                continue
            for line in metadata.requires(name) or ():
                one = Requirement(line)
                if one.marker is None or one.marker.evaluate({"extra": extra}):
                    wanted.append(one)
    return frozenset(name for name, _ in seen) - {OWN}


@cache
def size(distribution: str) -> int:
    """Bytes of the files that a distribution has installed."""
    files = metadata.files(distribution) or ()
    return sum(Path(str(file.locate())).stat().st_size for file in files if _there(file))


def _there(file: metadata.PackagePath) -> bool:
    return Path(str(file.locate())).is_file()


def modules(distributions: Iterable[str]) -> frozenset[str]:
    """The top-level modules that distributions have installed."""
    wanted = set(distributions)
    return frozenset(module for module, owners in _owners().items() if owners <= wanted)


@cache
def _owners() -> dict[str, frozenset[str]]:
    found = metadata.packages_distributions()
    return {module: frozenset(map(canonicalize_name, names)) for module, names in found.items()}
