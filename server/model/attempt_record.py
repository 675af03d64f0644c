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


def record(path: Path, attempts: Attempts) -> None:
    """Notes the attempts that a study has begun; durable on return. Raises OSError."""
    counts = {"made": attempts.made, "trainings": attempts.trainings}
    counts["evaluations"] = attempts.evaluations
    durable_files.write(path, canonical(counts) + b"\n")


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
