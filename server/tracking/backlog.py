"""Stores what MLflow did not take in a folder, for `wardround tracking deliver`."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from protocol.durable_files import make_folder, write, writing
from protocol.errors import Code, WardroundError
from protocol.housekeeping import Housekeeping
from protocol.study.study import Study
from server.outcome import Outcome, RoundReport, read_metrics

_STUDY, _WEIGHTS, _OUTCOME = "study.json", "weights.npy", "outcome.json"


def stored(
    folder: Path, outcome: Outcome, configuration: dict[str, Any], code_version: str, command: str
) -> str:
    """Stores an outcome in `folder`; where it is and which command delivers it, or that the disk
    did not take it."""
    housekeeping = Housekeeping()
    with housekeeping.task("store"):
        store(folder, outcome, configuration, code_version)
    if why := housekeeping.failing.get("store"):
        return f"It could not be stored in {folder} either: {why}."
    return f"It is stored in {folder}. When the server is back: {command}"


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


def deliver_command(
    folder: Path, uri: str, experiment: str, model: str | None, *, signed: bool = False
) -> str:
    """The command that delivers a stored study later. signed: with the key of the coordinator in
    whose folder state/undelivered/ the study is stored."""
    words = ["wardround", "tracking", "deliver", str(folder), uri, experiment]
    words += ["--model", model] if model else []
    words += ["--coordinator", str(folder.parents[2])] if signed else []
    return shlex.join(words)
