"""The folder of a study that runs in process, from which it can be resumed after an interruption.

Its folder holds study.json and configuration.yaml from the start, checkpoint.pt, rounds.jsonl and
what sites keep to themselves while it runs, weights.npy and summary.json at the end.

Each round is reported once. Interrupted between the sum that scored a model and the
checkpoint, a study scores that model again; the second histogram is dropped here, so that what is
released, and hence epsilon, is what the first run said.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import yaml

from launch.config.compose import plain
from launch.config.schema import Config
from launch.federations.inprocess import SITES
from protocol.durable_files import PUBLIC, append, write, writing
from protocol.errors import Code, WardroundError
from protocol.study.study import Study
from server.coordinator.study_events import report_from_json, report_to_json
from server.outcome import Outcome, RoundReport
from server.rounds.listener import Listener
from server.tracking.parameters import redacted
from server.tracking.summary import write_summary

STUDY, CONFIGURATION, CHECKPOINT, ROUNDS = (
    "study.json",
    "configuration.yaml",
    "checkpoint.pt",
    "rounds.jsonl",
)


class RunFolder:
    """A listener that keeps what it hears in `folder` and passes it on, each round once."""

    def __init__(self, folder: Path, listener: Listener, *, checkpoints: bool = True) -> None:
        """checkpoints: whether the study can be gone on with after an interruption."""
        self.folder, self._listener, self._checkpoints = folder, listener, checkpoints
        self._before = tuple(_kept(folder / ROUNDS))
        self.reports = list(self._before)
        self.outcome: Outcome | None = None

    @property
    def checkpoint(self) -> Path | None:
        return self.folder / CHECKPOINT if self._checkpoints else None

    @property
    def result(self) -> Outcome:
        """The whole study's outcome, once it has ended."""
        if self.outcome is None:
            raise WardroundError(Code.INTERNAL, "The study has no outcome yet.")
        return self.outcome

    def begin(self, study: Study, config: Config) -> None:
        """Writes what a later `--resume` starts from; see the function `begin`."""
        begin(self.folder, study, config)

    def waiting(self, why: Literal["offline", "approval", "hours"], sites: tuple[str, ...]) -> None:
        self._listener.waiting(why, sites)

    def lost(self, round_: int, attempt: int, why: str) -> None:
        self._listener.lost(round_, attempt, why)

    def round(self, report: RoundReport) -> None:
        if any(kept.round == report.round for kept in self.reports):
            return
        line = json.dumps(report_to_json(report)).encode() + b"\n"
        append(self.folder / ROUNDS, line, mode=PUBLIC, durable=self._checkpoints)
        self.reports.append(report)
        self._listener.round(report)

    def finish(self, outcome: Outcome) -> None:
        """Passes on the outcome of the whole study, not of its last stretch alone."""
        before = self._before
        metrics = outcome.metrics
        if before and before[-1].round == outcome.study.optimisation.rounds:
            metrics = before[-1].metrics  # told before: the closing round's second answer is not
        self.outcome = replace(
            outcome,
            rounds=tuple(self.reports),
            metrics=metrics,
            seconds=outcome.seconds + sum(report.seconds for report in before),
            bytes_sent=outcome.bytes_sent + sum(report.bytes_sent for report in before),
            bytes_received=outcome.bytes_received + sum(r.bytes_received for r in before),
        )
        self._listener.finish(self.outcome)


def begin(folder: Path, study: Study, config: Config) -> None:
    """Writes what a later `--resume` starts from; no secret is in it."""
    write(folder / STUDY, study.document, mode=PUBLIC)
    text = yaml.safe_dump(redacted(plain(config)), sort_keys=False, allow_unicode=True)
    write(folder / CONFIGURATION, text.encode(), mode=PUBLIC)


def can_go_on(folder: Path, federation: str) -> bool:
    """Whether an interrupted study can be resumed: from a checkpoint, or at its coordinator."""
    needed = STUDY if federation == "deployment" else CHECKPOINT
    return (folder / needed).exists()


def leave(outcome: Outcome, folder: Path) -> None:
    """weights.npy and summary.json, the last one at the end; what only a resumption needs goes."""
    with writing(folder / "weights.npy", mode=PUBLIC) as file:
        np.save(file, outcome.weights)
    write_summary(outcome, folder / "summary.json")
    for path in (folder / ROUNDS, *folder.glob(f"*{CHECKPOINT}*")):
        path.unlink(missing_ok=True)
    shutil.rmtree(folder / SITES, ignore_errors=True)


def forget(folder: Path) -> None:
    """Takes away what `RunFolder.begin` and a study without result left."""
    named = (folder / name for name in (STUDY, CONFIGURATION, ROUNDS))
    for path in (*named, *folder.glob(f"*{CHECKPOINT}*")):
        path.unlink(missing_ok=True)
    shutil.rmtree(folder / SITES, ignore_errors=True)


def _kept(path: Path) -> list[RoundReport]:
    """Whole lines only: a crash may have cut the last one short."""
    if not path.exists():
        return []
    return [
        report_from_json(json.loads(line))
        for line in path.read_bytes().splitlines(keepends=True)
        if line.endswith(b"\n")
    ]
