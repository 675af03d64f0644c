"""The attempts of a study in a small file, durable before any site is asked.

A hospital answers no attempt twice. So whoever goes on with a study, after a crash or a failure,
counts from the last attempt that any site may have seen: none is begun again, and none is skipped.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from protocol import durable_files
from protocol.document import canonical
from protocol.errors import Code, WardroundError
from server.model.attempts import Attempts

_BACKUP = ".backup"
"""Ending of an empty file beside a record that was put back from a backup."""


def record(path: Path, attempts: Attempts) -> None:
    """Notes the attempts that a study has begun; durable on return. Raises OSError."""
    counts = {"made": attempts.made, "trainings": attempts.trainings}
    counts["evaluations"] = attempts.evaluations
    durable_files.write(path, canonical(counts) + b"\n")


def put_back(path: Path) -> None:
    """Marks the attempts of a study as those of a backup: sites may have answered later ones, of
    which this record knows nothing. Raises OSError."""
    durable_files.write(path.with_name(path.name + _BACKUP), b"")


def is_behind(path: Path) -> bool:
    """Whether the record is a backup's, and some site may still know of later attempts."""
    return path.with_name(path.name + _BACKUP).exists()


def caught_up(path: Path, attempts: Attempts) -> None:
    """Notes attempts that count what sites have answered; the record is behind no more. Raises
    OSError."""
    record(path, attempts)
    path.with_name(path.name + _BACKUP).unlink(missing_ok=True)


def skipped(attempts: Attempts, answered: int) -> Attempts:
    """The attempts of a study whose record was put back, given the highest that a site says it has
    answered: those in between gave no sum that the model has in it, and may each have trained and
    evaluated."""
    if (more := answered - attempts.made) <= 0:
        return attempts
    return replace(
        attempts,
        made=answered,
        trainings=attempts.trainings + more,
        evaluations=attempts.evaluations + more,
        lost=(*attempts.lost, *range(attempts.made + 1, answered + 1)),
    )


def recorded(path: Path, saved: Attempts) -> Attempts:
    """The attempts that a study has begun, given those of its checkpoint. Later ones gave no sum
    that the model has in it: they are lost.

    Raises WardroundError(STATE) where the file cannot be read: attempts would be repeated.
    """
    try:
        counts = json.loads(path.read_bytes())
        begun = [counts[name] for name in ("made", "trainings", "evaluations")]
        if not all(type(count) is int and count >= 0 for count in begun):
            raise ValueError
    except FileNotFoundError:  # of a release that kept none
        return saved
    except (OSError, ValueError, KeyError, TypeError):
        raise WardroundError(
            Code.STATE,
            f"{path} cannot be read.",
            remedy="Restore the study's folder from a backup, or run a new study.",
        ) from None
    made, trainings, evaluations = begun
    if made <= saved.made:
        return saved
    lost = (*saved.lost, *range(saved.made + 1, made + 1))
    return replace(saved, made=made, trainings=trainings, evaluations=evaluations, lost=lost)
