"""After every round, and every sum that was impossible, everything needed to resume, written
atomically.

A file says its format. One of an older release is brought to this one's when it is read, and a copy
of it stays beside it, since the next round replaces it.
"""

from __future__ import annotations

import dataclasses
import io
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch

from protocol import durable_files
from protocol.errors import Code, WardroundError
from protocol.release import RELEASE, unknown_field
from server.model.attempts import Attempts
from server.model.suspects import Suspects
from server.outcome import RoundReport

_OLDER: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: lambda fields: fields}
"""Format -> what makes its fields those of the next. 0.1.0 wrote format 1 and did not say so."""
FORMAT = max(_OLDER) + 1


@dataclass(frozen=True)
class Checkpoint:
    """A study after `round` rounds, and the attempts lost since. Aggregates only: the sums are
    opened already."""

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
    suspected: dict[str, Any] = field(default_factory=dict)

    @property
    def attempts(self) -> Attempts:
        """The study's, so far."""
        return Attempts(self.attempt, self.trainings, self.evaluations, tuple(self.lost))

    @property
    def suspects(self) -> Suspects:
        """What lost attempts say, so far; an older release did not note it."""
        return Suspects.of_plain(self.suspected)

    @property
    def report(self) -> RoundReport | None:
        """The last round's, where its metrics are still to come."""
        return None if self.pending is None else RoundReport(**self.pending)

    def save(self, path: Path) -> None:
        """Durable on return: a crash leaves the previous checkpoint or this one. Raises OSError."""
        with durable_files.writing(path) as file:
            fields = {"format": FORMAT, "release": RELEASE} | self.__dict__
            whole = _Whole(file)
            torch.save(fields, whole)
            if whole.fault is not None:
                raise whole.fault

    @staticmethod
    def load(path: Path, study: str) -> Checkpoint | None:
        """The checkpoint of that study, None where there is none.

        Raises WardroundError: STATE where the file is unreadable or another study's, RELEASE where
        a newer release wrote it.
        """
        if not path.exists():
            return None
        try:
            fields = dict(torch.load(path, weights_only=True))
        except Exception as error:
            raise _unreadable(path, type(error).__name__) from None
        checkpoint, written = _parsed(path, fields)
        if checkpoint.study != study:
            raise WardroundError(
                Code.STATE,
                f"The checkpoint {path} belongs to another study.",
                remedy="Give each study its own folder.",
            )
        if written < FORMAT:
            _copy_older(path, written)
        return checkpoint


class _Whole(io.BytesIO):
    """A file for torch.save, which hides a write's OSError behind a fault of its own."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self.fault: OSError | None = None

    def write(self, data: Any, /) -> int:
        try:
            if self.fault is None:
                self._file.write(data)
        except OSError as error:
            self.fault = error
        return len(data)


def _parsed(path: Path, fields: dict[str, Any]) -> tuple[Checkpoint, int]:
    """The checkpoint, and the format in which it was written."""
    written, release = fields.pop("format", 1), fields.pop("release", "0.1.0")
    if not isinstance(written, int) or written < 1:
        raise _unreadable(path, "no format")
    if written > FORMAT:
        raise WardroundError(
            Code.RELEASE,
            f"The checkpoint {path} has format {written}, of wardround {str(release)[:20]}; this "
            f"is wardround {RELEASE}, which reads format {FORMAT} and older.",
            remedy="Install the release that wrote it, or start the study again in another folder.",
        )
    for step in range(written, FORMAT):
        fields = _OLDER[step](fields)
    known = {field.name for field in dataclasses.fields(Checkpoint)}
    if unknown := sorted(set(map(str, fields)) - known):
        raise unknown_field(unknown[0], f"The checkpoint {path}")
    try:
        return Checkpoint(**fields), written
    except TypeError:
        raise _unreadable(path, "a field is missing") from None


def _copy_older(path: Path, written: int) -> None:
    """A copy of what an older release wrote. Raises WardroundError(STATE)."""
    copy = path.with_name(f"{path.name}.format-{written}")
    if copy.exists():
        return
    try:
        with path.open("rb") as older, durable_files.writing(copy) as file:
            shutil.copyfileobj(older, file)
    except OSError as error:
        raise WardroundError(
            Code.STATE,
            f"{copy} cannot be written: {error.strerror}.",
            remedy="Make room on the disk; the older checkpoint is kept before it is replaced.",
        ) from None


def _unreadable(path: Path, why: str) -> WardroundError:
    return WardroundError(
        Code.STATE,
        f"The checkpoint {path} cannot be read ({why}).",
        remedy="Move it away to start the study again, or restore it from a backup.",
    )
