"""The mutants: faults that break privacy or let strangers end a service (`mutants.toml`)."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

PROJECT = Path(__file__).resolve().parents[2]
_FILE = Path(__file__).with_name("mutants.toml")

Area = Literal[
    "clipping",
    "sampling",
    "denominators",
    "noise",
    "accounting",
    "ledger",
    "secure aggregation",
    "queries",
    "evaluation",
    "released models",
    "prediction",
    "liars",
    "edges",
    "access",
    "records",
]
AREAS: tuple[Area, ...] = get_args(Area)


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One replacement in one file. file, tests: paths from the project's root."""

    name: str
    area: Area
    file: str
    old: str
    """Stands exactly once in the file."""
    new: str
    breaks: str
    """What it does to patients or to a service."""
    tests: tuple[str, ...]
    """Those that must notice, as pytest names them: FILE or FILE::TEST."""
    sample: bool = False
    """Whether it is one of the few that the suite itself runs."""

    def changed(self, source: str) -> str:
        """The source with the fault in it. Raises ValueError unless `old` stands there once."""
        if (times := source.count(self.old)) != 1 or self.old == self.new:
            raise ValueError(
                f"{self.name}: `old` stands {times} times in {self.file}, not once, or equals "
                f"`new`. Where the code has moved, write the same fault anew:\n{self.old}"
            )
        return source.replace(self.old, self.new)


def load() -> tuple[Mutant, ...]:
    """All of them, in the file's order. Raises TypeError for a field that is unknown or lacking."""
    rows = tomllib.loads(_FILE.read_text(encoding="utf-8"))["mutant"]
    return tuple(Mutant(**(row | {"tests": tuple(row["tests"])})) for row in rows)
