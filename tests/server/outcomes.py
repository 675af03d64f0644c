"""Studies and outcomes of breast_cancer for the tests of tracking and summary."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Literal

import numpy as np

from protocol.outcomes.estimates import Estimate
from protocol.study.study import (
    Aggregation,
    Evaluation,
    Member,
    Model,
    Optimisation,
    Privacy,
    Study,
    TaskReference,
)
from server.outcome import Approvals, CalibrationPoint, OpenedScores, Outcome, RoundReport
from tasks import registry
from tasks.flat_model import FlatModel

CONFIGURATION = {
    "title": "Malignant or not",
    "privacy": {"mode": "local", "epsilon": 2.0},
    "tracking": {"uri": "http://reader:hunter2@127.0.0.1", "password": "hunter3"},
    "sites": ["north", "south"],
    "long": "x" * 7000,
}


def study(rounds: int = 3, title: str = "Malignant or not") -> Study:
    """A private study with a nonce of its own."""
    task = registry.load("breast_cancer")
    layout = FlatModel(task, 0).layout
    return Study(
        title=title,
        purpose="research",
        contact="ward@example.org",
        nonce=secrets.token_hex(16),
        task=TaskReference(name=task.name, version=task.version, source=task.source_digest()),
        model=Model(parameters=layout.size, layout=layout.digest),
        privacy=Privacy(mode="local", noise_multiplier=1.5, epsilon=2.0, sampling_rate=0.1),
        optimisation=Optimisation(rounds=rounds),
        aggregation=Aggregation(attempts=2 * rounds + 2),
        evaluation=Evaluation(every=1, noise_multiplier=4.0),
        roster=tuple(Member(name=name, patients=100) for name in ("east", "north", "south")),
    )


def report(round_: int) -> RoundReport:
    area = 0.9 + 0.01 * min(round_, 8)
    return RoundReport(
        round=round_,
        attempt=round_ + 1,
        participants=3,
        seconds=0.25,
        bytes_sent=1000 * round_,
        bytes_received=2000,
        epsilon=0.5 * round_,
        metrics={
            "auc": Estimate(area, area - 0.02, area + 0.02),
            "brier": Estimate(0.1, 0.08, float("nan")),
        },
    )


def outcome(of: Study) -> Outcome:
    """A finished outcome with weights that score nothing at 0.5."""
    rounds = tuple(report(r) for r in range(1, of.optimisation.rounds + 1))
    weights = np.random.default_rng(7).normal(size=of.model.parameters).astype(np.float32)
    return Outcome(
        status="finished",
        study=of,
        weights=weights,
        rounds=rounds,
        metrics=rounds[-1].metrics,
        epsilon=1.875,
        epsilon_broken=7.5,
        uncovered="Epsilon does not cover the evaluation split.",
        seconds=2.5,
        bytes_sent=6000,
        bytes_received=6000,
        calibration=(CalibrationPoint(0.2, 0.25), CalibrationPoint(0.8, 0.75)),
        scores=OpenedScores((30.0, 20.0, 8.0, 2.0, 1.0, 5.0, 14.0, 20.0), 1.5),
        approvals=Approvals(by_hand=1, by_rule=2),
    )


def ended(of: Study, status: Literal["failed", "killed"]) -> Outcome:
    """An outcome that stopped after its first round."""
    whole = outcome(of)
    return replace(whole, status=status, rounds=whole.rounds[:1])
