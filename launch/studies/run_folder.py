"""The folder of a study that runs in process, from which it can be resumed after an interruption.

It holds study.json and configuration.yaml from the start; checkpoint.pt, rounds.jsonl and the
state of simulated sites while the study runs; weights.npy and summary.json at the end. A study that
ends early leaves the last model that was paid for as unfinished.npy, and unfinished.json beside it.

Each round is reported once. A study that is interrupted between the sum that scored a model and the
checkpoint scores that model again; the second histogram is dropped here, so that what is released,
and hence epsilon, is what the first run reported.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

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
from server.rounds.listener import Listener, Listeners
from server.tracking.parameters import redacted
from server.tracking.summary import write_summary

STUDY, CONFIGURATION, CHECKPOINT, ROUNDS = (
    "study.json",
    "configuration.yaml",
    "checkpoint.pt",
    "rounds.jsonl",
)
_UNFINISHED = ("unfinished.npy", "unfinished.json")


class RunFolder(Listeners):
    """A listener that records a study in `folder` and passes its reports on, each round once."""

    def __init__(self, folder: Path, listener: Listener, *, checkpoints: bool = True) -> None:
        """checkpoints: whether the study can be resumed after an interruption."""
        super().__init__(listener)
        self.folder, self._checkpoints = folder, checkpoints
        self._before = tuple(_recorded_rounds(folder / ROUNDS))
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

    def round(self, report: RoundReport) -> None:
        if any(earlier.round == report.round for earlier in self.reports):
            return
        line = json.dumps(report_to_json(report)).encode() + b"\n"
        append(self.folder / ROUNDS, line, mode=PUBLIC, durable=self._checkpoints)
        self.reports.append(report)
        super().round(report)

    def finish(self, outcome: Outcome) -> None:
        """Passes on the outcome of the whole study, including the rounds recorded before."""
        before = self._before
        metrics = outcome.metrics
        if before and before[-1].round == outcome.study.optimisation.rounds:
            metrics = before[-1].metrics  # reported before; the second histogram is dropped
        self.outcome = replace(
            outcome,
            rounds=tuple(self.reports),
            metrics=metrics,
            seconds=outcome.seconds + sum(report.seconds for report in before),
            bytes_sent=outcome.bytes_sent + sum(report.bytes_sent for report in before),
            bytes_received=outcome.bytes_received + sum(r.bytes_received for r in before),
        )
        super().finish(self.outcome)


def begin(folder: Path, study: Study, config: Config) -> None:
    """Writes what `--resume` starts from, without secrets."""
    write(folder / STUDY, study.document, mode=PUBLIC)
    text = yaml.safe_dump(redacted(plain(config)), sort_keys=False, allow_unicode=True)
    write(folder / CONFIGURATION, text.encode(), mode=PUBLIC)


def is_resumable(folder: Path, federation: str) -> bool:
    """Whether an interrupted study can be resumed: from a checkpoint, or at its coordinator."""
    needed = STUDY if federation == "deployment" else CHECKPOINT
    return (folder / needed).exists()


def leave(outcome: Outcome, folder: Path) -> None:
    """Writes weights.npy and then summary.json, and removes what only a resumption needs."""
    with writing(folder / "weights.npy", mode=PUBLIC) as file:
        np.save(file, outcome.weights)
    write_summary(outcome, folder / "summary.json")
    _remove(folder, ROUNDS, *_UNFINISHED)


def leave_unfinished(outcome: Outcome | None, folder: Path) -> bool:
    """Writes unfinished.npy and then unfinished.json, where a study that ended early has learned
    something. Whether it has; what a resumption needs stays."""
    if outcome is None or outcome.released != "unfinished":
        return False
    weights, summary = (folder / name for name in _UNFINISHED)
    with writing(weights, mode=PUBLIC) as file:
        np.save(file, outcome.weights)
    write_summary(outcome, summary)
    return True


def has_unfinished(folder: Path) -> bool:
    """Whether a study that ended early has left its model there."""
    return (folder / _UNFINISHED[-1]).exists()


def forget(folder: Path) -> None:
    """Removes what `begin` and a study without a result left."""
    _remove(folder, STUDY, CONFIGURATION, ROUNDS)


def _remove(folder: Path, *names: str) -> None:
    for path in (*(folder / name for name in names), *folder.glob(f"*{CHECKPOINT}*")):
        path.unlink(missing_ok=True)
    shutil.rmtree(folder / SITES, ignore_errors=True)


def _recorded_rounds(path: Path) -> list[RoundReport]:
    """Whole lines only: a crash may have cut the last one short."""
    if not path.exists():
        return []
    return [
        report_from_json(json.loads(line))
        for line in path.read_bytes().splitlines(keepends=True)
        if line.endswith(b"\n")
    ]
