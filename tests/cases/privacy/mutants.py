"""Faults that were put into the product on purpose, and whether a test noticed (`mutants.toml`)."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[3]
_FILE = Path(__file__).with_name("mutants.toml")


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One replacement in one file. file, tests, noticed_by: paths from the project's root."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    """What ran against it."""
    survived: bool
    """Whether all of that passed."""
    goes_wrong: str = ""
    """What it does to users where it survived."""
    noticed_by: str = ""
    """The first test that failed where it did not."""

    def __post_init__(self) -> None:
        """Raises ValueError for a mutant that says neither, or both."""
        if self.survived != bool(self.goes_wrong) or self.survived == bool(self.noticed_by):
            raise ValueError(
                f"{self.name}: `goes_wrong` for a mutant that survived, `noticed_by` for another."
            )

    def stands(self, source: str) -> bool:
        """Whether the text to replace is in that source, so that the change changes something."""
        return self.old in source and self.old != self.new

    def changed(self, source: str) -> str:
        """The source with the first place replaced."""
        return source.replace(self.old, self.new, 1)


def load() -> tuple[Mutant, ...]:
    """All of them, in the file's order. Raises TypeError for a field that is unknown or lacking."""
    rows = tomllib.loads(_FILE.read_text(encoding="utf-8"))["mutant"]
    return tuple(Mutant(**(row | {"tests": tuple(row["tests"])})) for row in rows)
