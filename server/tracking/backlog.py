"""Stores what MLflow did not take, in a folder a study.

A coordinator sends it by itself when MLflow is back
(server/coordinator/operations/settlement.py); what a run on one's own machine stored goes by
`wardround tracking deliver`.
"""

from __future__ import annotations

import json
import operator
import shlex
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from protocol.document import Document, added_field
from protocol.durable_files import make_folder, write, writing
from protocol.errors import Code, WardroundError
from protocol.housekeeping import reason
from protocol.study.study import Study
from server.outcome import Outcome, RoundReport, read_metrics

_STUDY, _WEIGHTS, _OUTCOME = "study.json", "weights.npy", "outcome.json"
_DESTINATION = "destination.json"
Write = Callable[[Callable[[], object]], object]
"""Does work that writes, which may raise OSError and may be repeated whole."""


class Destination(Document):
    """Where a coordinator sends a stored study: the experiment's and the registered model's name
    (None: the task's). The rest is what its card says besides (`model_card.Background`)."""

    experiment: str
    model: str | None
    launched_by: str = added_field("")
    submitted: str = added_field("")
    earlier: str = added_field("")


def stored(
    folder: Path,
    outcome: Outcome | None,
    study: Study,
    configuration: dict[str, Any],
    code_version: str,
    later: Destination | str,
    write_out: Write = operator.call,
) -> str:
    """Stores an outcome, or that the study ended without one. `later`: where the coordinator will
    send it, or the command that does. Returns what becomes of it.

    Raises what `write_out` raises, for a coordinator; of a run on one's own machine it is returned
    that the disk did not take it.
    """

    def record() -> None:
        if outcome is not None:
            store(folder, outcome, configuration, code_version)
        else:
            make_folder(folder)
            write(folder / _STUDY, study.document)
        if isinstance(later, Destination):
            write(folder / _DESTINATION, later.model_dump_json().encode())

    if isinstance(later, Destination):
        write_out(record)
        return "The coordinator sends it by itself when MLflow is back."
    try:
        write_out(record)
    except OSError as error:
        return f"It could not be stored in {folder} either: {reason(error)}."
    return f"It is stored in {folder}. When the server is back: {later}"


def destination(folder: Path) -> Destination | None:
    """Where a coordinator sends what is stored there; None where that is not for it to do (an older
    release's, or incomplete)."""
    try:
        return Destination.model_validate_json((folder / _DESTINATION).read_bytes())
    except (OSError, ValidationError):
        return None


def ended_without_outcome(folder: Path) -> Study | None:
    """The study, where only its end is stored. Raises WardroundError as `Study.parse`, OSError."""
    if (folder / _OUTCOME).exists():
        return None
    return Study.parse((folder / _STUDY).read_bytes())


def store(folder: Path, outcome: Outcome, configuration: dict[str, Any], code_version: str) -> None:
    """Writes an outcome and its configuration into `folder`, readable by its owner only. Raises
    OSError."""
    make_folder(folder)
    write(folder / _STUDY, outcome.study.document)
    with writing(folder / _WEIGHTS) as file:
        np.save(file, outcome.weights, allow_pickle=False)
    plain = outcome.figures() | {"rounds": [asdict(report) for report in outcome.rounds]}
    content = {"outcome": plain, "configuration": configuration, "code_version": code_version}
    write(folder / _OUTCOME, json.dumps(content, default=str).encode())


def read(folder: Path) -> tuple[Outcome, dict[str, Any], str]:
    """What `store` wrote: outcome, configuration, code version.

    Raises WardroundError(STATE) where the folder does not hold it.
    """
    try:
        content = json.loads((folder / _OUTCOME).read_text())
        plain = content["outcome"]
        outcome = Outcome.of_figures(
            plain,
            Study.parse((folder / _STUDY).read_bytes()),
            np.load(folder / _WEIGHTS, allow_pickle=False),
            tuple(
                RoundReport(**report | {"metrics": read_metrics(report["metrics"])})
                for report in plain["rounds"]
            ),
        )
    except (OSError, AttributeError, ValueError, KeyError, TypeError) as error:
        raise WardroundError(
            Code.STATE,
            f"{folder} holds no undelivered study ({type(error).__name__}).",
            remedy="Give the folder that `wardround run` named.",
        ) from None
    return outcome, content["configuration"], content["code_version"]


def deliver_command(folder: Path, uri: str, experiment: str, model: str | None) -> str:
    """The command that delivers a study later, which a run on one's own machine stored."""
    words = ["wardround", "tracking", "deliver", str(folder), uri, experiment]
    words += ["--model", model] if model else []
    return shlex.join(words)
