"""After every round, everything needed to go on at the next one, written atomically."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from protocol.errors import Code, WardroundError


@dataclass(frozen=True)
class Checkpoint:
    """A study after `round` rounds. Aggregates only: the sums are opened already."""

    study: str
    round: int
    attempt: int
    trainings: int
    evaluations: int
    weights: torch.Tensor
    average: torch.Tensor | None
    averaged: int
    optimiser: dict[str, Any]
    control: torch.Tensor | None
    lost: list[int]
    stopping: tuple[float | None, torch.Tensor | None, int]
    pending: dict[str, Any] | None

    def save(self, path: Path) -> None:
        """Write, fsync, rename: a crash leaves the previous checkpoint or this one."""
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            os.fchmod(file.fileno(), 0o600)
            torch.save(self.__dict__, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)

    @staticmethod
    def load(path: Path, study: str) -> Checkpoint | None:
        """The checkpoint of that study, None where there is none.

        Raises WardroundError(STATE) where the file is unreadable or another study's.
        """
        if not path.exists():
            return None
        try:
            found = Checkpoint(**torch.load(path, weights_only=True))
        except Exception as error:
            raise WardroundError(
                Code.STATE,
                f"The checkpoint {path} cannot be read ({type(error).__name__}).",
                remedy="Move it away to start the study anew, or restore it from a backup.",
            ) from None
        if found.study != study:
            raise WardroundError(
                Code.STATE,
                f"The checkpoint {path} belongs to another study.",
                remedy="Give each study its own folder.",
            )
        return found
